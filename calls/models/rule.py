"""Rules: which profile answers a call that names none, by who is called, who calls, and when."""

import re
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, tzinfo
from fnmatch import fnmatchcase
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import holidays
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator
from django.db import models

from .numbers import normalised
from .profile import PromptProfile
from .storable import one_line

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ANY_DAY = "1234567"  # as isoweekday() counts


class OnHolidays(models.TextChoices):
    """What the calendar's holidays are to a rule."""

    ANY = "any", "As any other day"
    NEVER = "never", "Never: the rule does not apply then"
    ALWAYS = "always", "Always, also on days of the week that are not chosen"
    ONLY = "only", "Only then"


@dataclass(frozen=True, slots=True)
class Asked:
    """The call a profile is looked for: who calls whom, and when (aware)."""

    caller: str
    callee: str
    at: datetime


def fits(patterns: str, value: str) -> bool:
    """Whether one of the patterns, separated by commas, describes the value; "" describes any.

    "*" stands for anything. Case does not count, nor how a number is written.
    """
    wanted = [pattern.strip().casefold() for pattern in patterns.split(",") if pattern.strip()]
    forms = {value.strip().casefold(), normalised(value)}
    return not wanted or any(
        fnmatchcase(form, each) for pattern in wanted for each in _spellings(pattern) for form in forms
    )


def _spellings(pattern: str) -> set[str]:
    """A pattern as it is, and the pattern of a number without what people write between digits."""
    if not re.fullmatch(r"[+\d\s().\-/*?]*\d[\d\s().\-/*?]*", pattern):
        return {pattern}
    bare = re.sub(r"[\s().\-/]", "", pattern)
    return {pattern, bare, re.sub(r"^(\+|00)", "", bare)}


def known_time_zone(name: str) -> None:
    """Raise ValidationError for a time zone that nobody has."""
    if name not in available_timezones():
        raise ValidationError("Enter a time zone such as Europe/Berlin.")


def known_region(region: str) -> None:
    """Raise ValidationError for a country or a part of one whose holidays are not known."""
    country, _, part = region.partition("-")
    known = holidays.list_supported_countries()
    if country not in known:
        raise ValidationError("Enter a country's code such as DE or US, perhaps with a part of it: DE-BE.")
    if part and part not in known[country]:
        parts = ", ".join(known[country]) or "none"
        raise ValidationError(f"The parts of {country} with holidays of their own: {parts}.")


def _day_of(line: str) -> date:
    return date.fromisoformat(line.split("#", maxsplit=1)[0].strip())


def list_of_days(text: str) -> None:
    """Raise ValidationError unless each line is a date such as 2026-12-24, perhaps with "# why"."""
    for line in filter(str.strip, text.splitlines()):
        try:
            _day_of(line)
        except ValueError:
            raise ValidationError(
                f"Enter a date such as 2026-12-24 in each line, not “{line[:40]}”."
            ) from None


@lru_cache(maxsize=64)
def _public_holidays(region: str, year: int) -> dict[date, str]:
    country, _, part = region.partition("-")
    return dict(holidays.country_holidays(country, subdiv=part or None, years=year))


class Calendar(models.Model):
    """The days on which it is a holiday: a country's, and those one adds."""

    name = models.CharField(max_length=80, unique=True, help_text="What people call it, such as “Berlin”.")
    region = models.CharField(
        max_length=20,
        blank=True,
        validators=[known_region],
        help_text="The country whose public holidays count, such as DE, US or, for a part of it, DE-BE. "
        "Empty: only the days below.",
    )
    days = models.TextField(
        "other days",
        blank=True,
        validators=[MaxLengthValidator(5000), list_of_days],
        help_text="One a line, such as “2026-12-24 # closed”: days that count as well.",
    )

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def holiday(self, day: date) -> str:
        """Return what holiday it is on this day, "" if it is none."""
        for line in filter(str.strip, self.days.splitlines()):
            if _day_of(line) == day:
                return line.partition("#")[2].strip() or "a day of the calendar"
        return _public_holidays(self.region, day.year).get(day, "") if self.region else ""


class RuleQuerySet(models.QuerySet["Rule"]):
    """Finding rules."""

    def in_force(self) -> "RuleQuerySet":
        """Return the rules that are on and whose profile calls may use, with both, in their order."""
        usable = PromptProfile.objects.usable()
        return self.filter(is_enabled=True, profile__in=usable).select_related("profile", "calendar")


class Rule(models.Model):
    """Which profile answers calls of one kind. The first rule that matches counts."""

    position = models.PositiveSmallIntegerField(default=10, help_text="The lowest is looked at first.")
    name = models.CharField(max_length=80, help_text="What people call it, such as “At night”.")
    is_enabled = models.BooleanField("on", default=True, help_text="Off: it is passed over.")
    callee = models.CharField(
        "called",
        max_length=200,
        blank=True,
        help_text="Who is called, such as 100 or +4930123*; several separated by commas. Empty: anybody.",
    )
    caller = models.CharField(
        max_length=200, blank=True, help_text="Who calls, in the same way. Empty: anybody."
    )
    weekdays = models.CharField(
        "days of the week", max_length=7, default=ANY_DAY, help_text="The days on which it applies."
    )
    begins_at = models.TimeField(
        "from", null=True, blank=True, help_text="The time from which it applies. Empty: midnight."
    )
    ends_at = models.TimeField(
        "until",
        null=True,
        blank=True,
        help_text="The time from which it does not any more. Empty: midnight. Earlier than “from”: on the "
        "next day.",
    )
    time_zone = models.CharField(
        max_length=40,
        blank=True,
        validators=[known_time_zone],
        help_text="Of the days and times, such as Europe/Berlin. Empty: the server's.",
    )
    calendar = models.ForeignKey(
        Calendar, null=True, blank=True, on_delete=models.PROTECT, help_text="Says when holidays are."
    )
    on_holidays = models.CharField(
        max_length=10,
        choices=OnHolidays,
        default=OnHolidays.ANY,
        help_text="Whether it applies on the calendar's holidays.",
    )
    profile = models.ForeignKey(
        PromptProfile, on_delete=models.PROTECT, related_name="rules", help_text="The profile that answers."
    )

    objects = RuleQuerySet.as_manager()

    class Meta:
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ValidationError for holidays without a calendar, and for an empty stretch of time."""
        if self.on_holidays != OnHolidays.ANY and self.calendar is None:
            raise ValidationError({"calendar": "Choose the calendar that says when holidays are."})
        if self.begins_at is not None and self.begins_at == self.ends_at:
            raise ValidationError({"ends_at": "Enter another time than “from”, or leave both empty."})

    @property
    def zone(self) -> tzinfo:
        """The time zone of its days and times."""
        return ZoneInfo(self.time_zone or settings.TIME_ZONE)

    def why_not(self, asked: Asked) -> str:
        """Return why the rule does not match this call, in words; "" if it does."""
        if not fits(self.callee, asked.callee):
            return f"{one_line(asked.callee) or 'nobody known'} is called"
        if not fits(self.caller, asked.caller):
            return f"{one_line(asked.caller) or 'an unknown caller'} calls"
        return self._why_not_then(asked.at.astimezone(self.zone))

    def _why_not_then(self, at: datetime) -> str:
        day = self._day_at(at)
        if day is None:
            return f"it is {at:%H:%M}"
        holiday = self.calendar.holiday(day) if self.calendar else ""
        if self.on_holidays == OnHolidays.ONLY and not holiday:
            return f"{day} is no holiday"
        if self.on_holidays == OnHolidays.NEVER and holiday:
            return f"{day} is a holiday ({holiday})"
        always = holiday and self.on_holidays in (OnHolidays.ALWAYS, OnHolidays.ONLY)
        if not always and str(day.isoweekday()) not in self.weekdays:
            return f"it is {WEEKDAYS[day.weekday()]}"
        return ""

    def _day_at(self, at: datetime) -> date | None:
        """The day to whose hours this moment belongs: after midnight the day before; None if to no day's."""
        now, begins, ends = at.time(), self.begins_at or time.min, self.ends_at
        if ends is None or begins < ends:
            return at.date() if begins <= now and (ends is None or now < ends) else None
        if now >= begins:
            return at.date()
        return at.date() - timedelta(days=1) if now < ends else None
