"""The form of a prompt profile. The providers and languages offered are the catalogue's."""

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget

from calls.admin import meanwhile, services
from calls.admin.fields import SettingsField, offer
from calls.models import ProfileVersion, PromptProfile
from calls.models.version import NOTE_CHARS
from calls.profiles import languages, succession
from calls.profiles.readiness import Finding, errors, readiness
from calls.providers import accounts, catalogue

TEXTS = ["greeting", "apology", "farewell", "transfer_announcement"]
SETTINGS = [f"{kind}_settings" for kind in catalogue.KINDS]
PUBLISH = "_publish"  # the name of the button
BESIDES = ["confirmed", "note", "seen"]  # fields that are none of the profile


class PromptProfileForm(forms.ModelForm):
    """A prompt profile. The draft is saved as it is; it is published if it would work in a call.

    Whoever takes the default away is asked first, and so is whoever saves what another has changed meanwhile.
    """

    is_saved = True
    others: meanwhile.Meanwhile | None = None

    confirmed = forms.BooleanField(label="Yes, change who answers", required=False, widget=forms.HiddenInput)
    note = forms.CharField(
        label="What has changed?",
        required=False,
        max_length=NOTE_CHARS,
        help_text="Shown with the version.",
    )
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = PromptProfile
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets say which
        field_classes = dict.fromkeys(SETTINGS, SettingsField)
        widgets = {
            "system_prompt": AdminTextareaWidget(attrs={"rows": 14}),
            **dict.fromkeys([*TEXTS, "end_phrases"], AdminTextareaWidget(attrs={"rows": 2})),
            **dict.fromkeys(SETTINGS, AdminTextareaWidget(attrs={"rows": 4})),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in catalogue.KINDS:
            offer(self, f"{kind}_provider", catalogue.choices(kind))
            offer(self, f"{kind}_fallback", [("", "The embedded one"), *catalogue.choices(kind)[1:]])
        offer(self, "language", languages.choices())
        if self.instance.pk:
            self.initial["seen"] = meanwhile.seen(self.instance)
        if not (self.instance.pk and self.instance.current_version):
            self.initial.setdefault("note", "First version")
        if isinstance(second := self.fields.get("split_version"), forms.ModelChoiceField):
            versions = ProfileVersion.objects.filter(profile=self.instance.pk)
            second.queryset = versions.select_related("profile")
        services.add_fields(self)

    @property
    def is_publishing(self) -> bool:
        """Whether the button was Publish."""
        return self.is_saved and PUBLISH in self.data

    @property
    def services(self) -> "list[services.Service]":
        """The providers with their settings, to be shown."""
        return services.services(self)

    def clean(self) -> dict[str, Any]:
        """Take each provider's settings together, and ask what has to be asked before anything is saved."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for kind in catalogue.KINDS:
            services.gather(self, kind, cleaned)
        if self.is_saved:
            self._look_for_others(cleaned)
            self._ask_first(cleaned)
        if self.is_publishing and self.others is None:
            self.instance.is_published, self.instance.archived_at = True, None
            if not cleaned.get("note"):
                self.add_error("note", "Say in a few words what has changed; it is shown with the version.")
        return cleaned

    def full_clean(self) -> None:
        """Check the profile as it would be stored; one to be published also for whether it would work."""
        super().full_clean()
        if self.is_publishing and not self.errors:
            accounts.refresh()
            for finding in errors(readiness(self.instance.configuration())):
                self.add_error(self._place_of(finding), finding.message)

    def _place_of(self, finding: Finding) -> str:
        """The field of this form that a finding is about."""
        if finding.setting:
            return services.place_of(self, finding.field.removesuffix("_settings"), finding.setting)
        return finding.field

    def _look_for_others(self, cleaned: dict[str, Any]) -> None:
        """If another has saved the profile since it was opened, show what, and save nothing yet."""
        self.others = meanwhile.compare(self, cleaned)
        if self.others is not None:
            self.data = meanwhile.take_over(self, self.others)
            who = self.others.who or "Somebody"
            self.add_error(
                None, f"{who} has changed this profile while you were writing. Nothing is saved yet."
            )

    def _ask_first(self, cleaned: dict[str, Any]) -> None:
        """Have the form say who answers from then on, and save only what is confirmed."""
        consequence = succession.after_saving(self.instance, is_default=cleaned["is_default"])
        if consequence and not cleaned["confirmed"]:
            self.fields["confirmed"].widget = forms.CheckboxInput()
            self.add_error("confirmed", f"{consequence} Tick this and save again if that is meant.")


class UnsavedProfileForm(PromptProfileForm):
    """The form's values as they are typed, to be looked at or tried: nothing is asked, and nothing saved."""

    is_saved = False
