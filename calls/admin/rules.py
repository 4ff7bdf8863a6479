"""Django admin: the rules that choose a call's profile, their calendars, and who would answer a call."""

from contextlib import suppress
from typing import Any
from zoneinfo import available_timezones

from django import forms
from django.conf import settings
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils import timezone

from calls.models import Asked, Calendar, Pbx, PromptProfile, Rule
from calls.models.rule import ANY_DAY, WEEKDAYS
from calls.profiles.choosing import first_match

DAYS = [(str(number), name) for number, name in enumerate(WEEKDAYS, 1)]
SHORT = [name[:2] for name in WEEKDAYS]


class WeekdaysField(forms.MultipleChoiceField):
    """Days of the week as boxes; stored as their numbers in one text."""

    widget = forms.CheckboxSelectMultiple

    def prepare_value(self, value: Any) -> Any:
        """Return the numbers one by one."""
        return list(value or "")

    def clean(self, value: Any) -> str:
        """Return the numbers in one text. Raises ValidationError for none."""
        return "".join(sorted(super().clean(value)))

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether other days are chosen than before."""
        return super().has_changed(list(initial or ""), data)


class RuleForm(forms.ModelForm):
    """A rule."""

    weekdays = WeekdaysField(
        label="days of the week",
        choices=DAYS,
        initial=ANY_DAY,
        help_text="The days on which it applies, in its time zone.",
    )

    class Meta:
        model = Rule
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets say which

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "time_zone" in self.fields:  # else it is shown read-only
            zones = sorted(name for name in available_timezones() if "/" in name and name[:4] != "Etc/")
            choices = [
                ("", f"The server's ({settings.TIME_ZONE})"),
                *((zone, zone) for zone in ("UTC", *zones)),
            ]
            self.fields["time_zone"].widget = forms.Select(choices=choices)


class QuestionForm(forms.Form):
    """A call of which somebody wants to know who would answer it."""

    callee = forms.CharField(label="Called", required=False, max_length=255, help_text="Such as 100.")
    caller = forms.CharField(required=False, max_length=255, help_text="Such as +49 30 1234567.")
    at = forms.DateTimeField(
        label="When",
        required=False,
        widget=forms.DateTimeInput(format="%Y-%m-%dT%H:%M", attrs={"type": "datetime-local"}),
    )
    pbx = forms.ModelChoiceField(
        Pbx.objects.all(), label="By the PBX", required=False, empty_label="any other way"
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["at"].help_text = f"In the server's time zone, {settings.TIME_ZONE}. Empty: now."


@admin.register(Calendar)
class CalendarAdmin(admin.ModelAdmin):
    """Calendars: the days that rules take for holidays."""

    list_display = ["name", "region"]
    search_fields = ["name", "region"]


@admin.register(Rule)
class RuleAdmin(admin.ModelAdmin):
    """Rules: which profile answers the calls that name none."""

    form = RuleForm
    list_display = ["name", "position", "is_enabled", "callee", "caller", "when", "profile", "is_in_force"]
    list_editable = ["position", "is_enabled"]
    list_select_related = ["profile", "calendar"]
    search_fields = ["name", "callee", "caller", "profile__name"]
    fieldsets = [
        (None, {"fields": ["name", "position", "is_enabled", "profile"]}),
        ("Who calls whom", {"fields": ["callee", "caller"]}),
        (
            "When",
            {"fields": ["weekdays", ("begins_at", "ends_at"), "time_zone", ("calendar", "on_holidays")]},
        ),
    ]

    @admin.display(description="when")
    def when(self, rule: Rule) -> str:
        """Return its days and times in a few words."""
        every = len(rule.weekdays) == len(WEEKDAYS)
        days = "every day" if every else ", ".join(SHORT[int(each) - 1] for each in rule.weekdays)
        times = ""
        if rule.begins_at or rule.ends_at:
            begins, ends = (f"{each:%H:%M}" if each else "0:00" for each in (rule.begins_at, rule.ends_at))
            times = f", {begins} to {ends}"
        holidays = f"; holidays: {rule.get_on_holidays_display().split(':')[0].lower()}"
        return f"{days}{times}{holidays if rule.calendar else ''}"

    @admin.display(description="counts", boolean=True)
    def is_in_force(self, rule: Rule) -> bool:
        """Return whether calls may use its profile, and it is on."""
        return rule.is_enabled and rule.profile.is_published

    def get_urls(self) -> list[URLPattern]:
        """Add the page that tells who would answer."""
        who = path("who/", self.admin_site.admin_view(self.who_answers), name="calls_rule_who")
        return [who, *super().get_urls()]

    def who_answers(self, request: HttpRequest) -> HttpResponse:
        """Tell who would answer a call, and why each rule does or does not match it."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = QuestionForm(request.GET or None, initial={"at": timezone.localtime()})
        context: dict[str, Any] = {
            **self.admin_site.each_context(request),
            "title": "Who would answer?",
            "opts": self.opts,
            "form": form,
        }
        if form.is_bound and form.is_valid():
            context |= _answer(**form.cleaned_data)
        return TemplateResponse(request, "admin/calls/rule/who.html", context)


def _answer(callee: str, caller: str, at: Any, pbx: Pbx | None) -> dict[str, Any]:
    """Who answers this call, by what, and what each rule says of it."""
    asked = Asked(caller, callee, at or timezone.now())
    in_force = list(Rule.objects.in_force())
    told = [
        {"rule": rule, "why_not": rule.why_not(asked) or ("" if rule in in_force else "it is not in force")}
        for rule in Rule.objects.select_related("profile", "calendar")
    ]
    route = pbx.profile_for(callee, caller) if pbx else ""
    matching = None if route else first_match(in_force, asked)
    slug = route or (matching.profile.slug if matching else "")
    version = PromptProfile.objects.for_call(slug) if slug else None
    with suppress(PromptProfile.DoesNotExist):
        version = version or PromptProfile.objects.default()
    return {"asked": asked, "told": told, "route": route, "matching": matching, "version": version}
