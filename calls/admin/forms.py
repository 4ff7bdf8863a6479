"""The form of a prompt profile."""

from typing import Any

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget

from calls.models import PromptProfile
from calls.providers import catalogue


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
