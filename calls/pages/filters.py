"""The filters of the list of calls."""

from dataclasses import dataclass
from datetime import date
from typing import Any

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import QueryDict
from django.utils.formats import date_format

from calls.models import CallSession, CallSessionQuerySet, CallStatus, PromptProfile
from calls.models.query import Query, parse

# Days beyond these are typing errors, and some databases can't compare them.
POSSIBLE_DAYS = [
    MinValueValidator(date(2000, 1, 1), "Enter a day from 2000 on."),
    MaxValueValidator(date(2199, 12, 31), "Enter a day before 2200."),
]


WITH_TESTS, ONLY_TESTS = "with", "only"


def _day_field(label: str) -> forms.DateField:
    """Return an optional day with the browser's date picker."""
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, required=False, validators=POSSIBLE_DAYS, widget=widget)


@dataclass(frozen=True)
class Chip:
    """A filter in force: what it is, and the query string of the list without it."""

    label: str
    query: str


class CallFilterForm(forms.Form):
    """The filters of the list of calls. With a mistake in one, none is applied."""

    q = forms.CharField(
        label="Search",
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"type": "search", "placeholder": "Words said, caller, callee, room"}),
    )
    from_date = _day_field("From")
    to_date = _day_field("To")
    profile = forms.ModelChoiceField(
        PromptProfile.objects.all(),
        required=False,
        to_field_name="slug",
        empty_label="All profiles",
        blank=True,
    )
    status = forms.ChoiceField(required=False, choices=[("", "Any status"), *CallStatus.choices])
    tests = forms.ChoiceField(
        label="Test calls",
        required=False,
        choices=[("", "Left out"), (WITH_TESTS, "Shown, too"), (ONLY_TESTS, "Only these")],
    )
    has_errors = forms.BooleanField(label="Has errors", required=False)

    def clean(self) -> dict[str, Any]:
        """Report a last day that lies before the first."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        first, last = cleaned.get("from_date"), cleaned.get("to_date")
        if first and last and last < first:
            self.add_error("to_date", "This day is before the first one.")
        return cleaned

    @property
    def is_used(self) -> bool:
        """Whether anything was entered, valid or not."""
        return any(self.data.get(name) for name in self.fields)

    @property
    def chips(self) -> list[Chip]:
        """The valid filters in force, as they are shown above the list."""
        self.is_valid()  # fills cleaned_data
        chosen = {name: value for name, value in self.cleaned_data.items() if value}
        labels = {
            "q": lambda text: f"“{text}”",
            "from_date": lambda day: f"from {date_format(day)}",
            "to_date": lambda day: f"to {date_format(day)}",
            "tests": lambda which: {WITH_TESTS: "with test calls", ONLY_TESTS: "test calls"}[which],
            "status": lambda status: CallStatus(status).label,
            "has_errors": lambda _: "has errors",
        }
        return [
            Chip(labels.get(name, str)(value), self._query_without(name)) for name, value in chosen.items()
        ]

    @property
    def mistakes(self) -> list[str]:
        """What is wrong, each with the filter's name."""
        return [
            f"{self.fields[name].label or name.capitalize()}: {error}"
            for name, errors in self.errors.items()
            for error in errors
        ]

    @property
    def folds(self) -> bool:
        """Whether the filters besides the search may be folded away: none of them has a mistake."""
        return not set(self.errors) - {"q"}

    def _query_without(self, name: str, **instead: str) -> str:
        """Return the query string with every filter entered but one, on the first page."""
        query = QueryDict(mutable=True)
        query.update(instead)
        for other in self.fields:
            if other != name and self.data.get(other):
                query[other] = self.data[other]
        return query.urlencode()

    def apply(self, calls: CallSessionQuerySet) -> CallSessionQuerySet:
        """Return those of `calls` that the valid form lets through; what is searched for is `query`."""
        chosen = self.cleaned_data
        calls = calls.started_between(chosen.get("from_date"), chosen.get("to_date"))
        if chosen.get("profile"):
            calls = calls.filter(profile=chosen["profile"])
        if chosen.get("status"):
            calls = calls.filter(status=chosen["status"])
        if chosen.get("has_errors"):
            calls = calls.with_errors()
        if chosen.get("tests") == ONLY_TESTS:
            return calls.filter(is_test=True)
        return calls if chosen.get("tests") == WITH_TESTS else calls.real()

    @property
    def hides_tests(self) -> bool:
        """Whether there are test calls, and they are left out."""
        return not self.cleaned_data.get("tests") and CallSession.objects.filter(is_test=True).exists()

    @property
    def query_with_tests(self) -> str:
        """Return the query string of the list with test calls, too."""
        return self._query_without("tests", tests=WITH_TESTS)

    @property
    def query(self) -> Query | None:
        """What is searched for; None if nothing is."""
        text = self.cleaned_data.get("q", "")
        return parse(text) if text else None
