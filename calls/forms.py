"""Forms: a prompt profile in the admin, and the filters of the list of calls."""

from datetime import date
from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget
from django.core.validators import MaxValueValidator, MinValueValidator

from calls.models import CallSessionQuerySet, CallStatus, PromptProfile
from calls.providers import catalogue

# Days beyond these are typing errors, and some databases can't compare them.
POSSIBLE_DAYS = [
    MinValueValidator(date(2000, 1, 1), "Enter a day from 2000 on."),
    MaxValueValidator(date(2199, 12, 31), "Enter a day before 2200."),
]


class PromptProfileForm(forms.ModelForm):
    """A prompt profile; its provider settings have to be what the chosen provider takes."""

    class Meta:
        model = PromptProfile
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets say which
        widgets = {
            **dict.fromkeys(["greeting", "apology", "farewell"], AdminTextareaWidget(attrs={"rows": 3})),
            **dict.fromkeys(
                ["stt_settings", "llm_settings", "tts_settings"], AdminTextareaWidget(attrs={"rows": 4})
            ),
        }

    def clean(self) -> dict[str, Any]:
        """Take emptied settings as {} and report settings the provider does not take on their field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for kind in catalogue.KINDS:
            name = f"{kind}_settings"
            if name in cleaned and cleaned[name] is None:
                cleaned[name] = {}
            settings, provider = cleaned.get(name), cleaned.get(f"{kind}_provider")
            if provider and isinstance(settings, dict):
                try:
                    catalogue.validate(kind, provider, settings)
                except ValueError as error:
                    self.add_error(name, str(error))
        return cleaned


def _day_field(label: str) -> forms.DateField:
    """Return an optional day with the browser's date picker."""
    widget = forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d")
    return forms.DateField(label=label, required=False, validators=POSSIBLE_DAYS, widget=widget)


class CallFilterForm(forms.Form):
    """The filters of the list of calls. A filter with an error is not applied."""

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

    def apply(self, calls: CallSessionQuerySet) -> CallSessionQuerySet:
        """Return those of `calls` that the valid filters let through."""
        self.is_valid()  # fills cleaned_data
        chosen = self.cleaned_data
        calls = calls.started_between(chosen.get("from_date"), chosen.get("to_date"))
        if chosen.get("profile"):
            calls = calls.filter(profile=chosen["profile"])
        if chosen.get("status"):
            calls = calls.filter(status=chosen["status"])
        return calls.search(chosen.get("q", ""))
