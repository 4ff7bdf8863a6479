"""The forms of a prompt profile and of a provider account. The providers offered are the catalogue's."""

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib.admin.widgets import AdminTextareaWidget

from calls.admin.fields import SettingsField
from calls.models import PromptProfile, ProviderAccount
from calls.models.account import validate_base_url
from calls.profiles import succession
from calls.providers import catalogue

TEXTS = ["greeting", "apology", "farewell", "transfer_announcement"]
SETTINGS = [f"{kind}_settings" for kind in catalogue.KINDS]


class PromptProfileForm(forms.ModelForm):
    """A prompt profile; its provider settings have to be what the chosen provider takes.

    Whoever takes the default away, or the last profile from the calls, is asked first.
    """

    confirmed = forms.BooleanField(label="Yes, change who answers", required=False, widget=forms.HiddenInput)

    class Meta:
        model = PromptProfile
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets say which
        field_classes = dict.fromkeys(SETTINGS, SettingsField)
        widgets = {
            **dict.fromkeys(TEXTS, AdminTextareaWidget(attrs={"rows": 3})),
            **dict.fromkeys(SETTINGS, AdminTextareaWidget(attrs={"rows": 4})),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind in catalogue.KINDS:
            _offer(self, f"{kind}_provider", catalogue.choices(kind))

    def clean(self) -> dict[str, Any]:
        """Take emptied settings as {} and report settings the provider does not take on their field."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        for kind in catalogue.KINDS:
            name = f"{kind}_settings"
            if name in cleaned and cleaned[name] is None:
                cleaned[name] = {}
            settings, provider = cleaned.get(name), cleaned.get(f"{kind}_provider")
            if provider and isinstance(settings, dict):
                self._check(kind, provider, settings)
        if cleaned.get("system_prompt") and (llm := cleaned.get("llm_provider")):
            with suppress(ValueError):  # a provider that is gone, which has been said
                _fitting, cut = catalogue.fit_prompt(llm, cleaned["system_prompt"])
                if cut:
                    self.add_error("system_prompt", f"For the chosen language model {cut}. Shorten it.")
        self._ask_first(cleaned)
        return cleaned

    def _check(self, kind: str, provider: str, settings: dict[str, Any]) -> None:
        """Report each setting that the provider does not take on the settings' field."""
        for name, value in settings.items():
            try:
                catalogue.validate(kind, provider, {name: value})
            except ValueError as error:
                self.add_error(f"{kind}_settings", str(error))

    def _ask_first(self, cleaned: dict[str, Any]) -> None:
        """Have the form say who answers from then on, and save only what is confirmed."""
        consequence = succession.after_saving(
            self.instance, is_published=cleaned["is_published"], is_default=cleaned["is_default"]
        )
        if consequence and not cleaned["confirmed"]:
            self.fields["confirmed"].widget = forms.CheckboxInput()
            self.add_error("confirmed", f"{consequence} Tick this and save again if that is meant.")


class ProviderAccountForm(forms.ModelForm):
    """A provider account. The form takes a key and never shows the one there is."""

    new_key = forms.CharField(
        required=False,
        strip=True,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="The provider's secret. It is stored encrypted. Leave empty to keep the one that is set.",
    )
    forget_key = forms.BooleanField(required=False, help_text="Remove the key that is set.")

    class Meta:
        model = ProviderAccount
        fields = ["provider", "label", "is_enabled", "base_url"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _offer(self, "provider", catalogue.account_choices())

    def clean_base_url(self) -> str:
        """Return the base URL, which `clean` takes apart. Raises ValidationError if it is none."""
        url: str = self.cleaned_data["base_url"]
        if url:
            validate_base_url(url)
        return url

    def clean(self) -> dict[str, Any]:
        """Report a base URL the provider is not reached by, and a key that would go somewhere else."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        provider, url = cleaned.get("provider"), cleaned.get("base_url")
        if provider and url and urlsplit(url).scheme not in (schemes := catalogue.schemes(provider)):
            expected = " or ".join(f"{scheme}://" for scheme in schemes)
            self.add_error("base_url", f"This provider is reached by {expected}.")
        if self.instance.has_key and not (cleaned.get("new_key") or cleaned.get("forget_key")):
            stored = self.instance.provider, _origin(self.instance.base_url)
            if not self.errors and stored != (provider, _origin(url)):
                self.add_error(
                    "new_key",
                    "The key that is set was entered for another provider or server, and is not sent to this "
                    "one: enter the key again, or have it forgotten.",
                )
        return cleaned

    def save(self, commit: bool = True) -> ProviderAccount:
        """Save the account, with the new key if there is one."""
        if self.cleaned_data["forget_key"]:
            self.instance.key = ""
        if key := self.cleaned_data["new_key"]:
            self.instance.key = key
        account: ProviderAccount = super().save(commit)
        return account


def _origin(url: str | None) -> tuple[str, str]:
    """Return whom a URL leads to; of "" where the server's settings lead."""
    parts = urlsplit(url or "")
    return parts.scheme, parts.netloc.lower()


def _offer(form: forms.ModelForm, name: str, choices: list[tuple[str, str]]) -> None:
    """Have a field offer these choices, and the stored one if it is not among them: it stays as it is."""
    if name not in form.fields:  # it is shown read-only
        return
    field = form.fields[name]
    stored = getattr(form.instance, name)
    if stored and stored not in dict(choices):
        choices = [*choices, (stored, f"{stored} (unknown here)")]
    form.fields[name] = forms.ChoiceField(
        choices=choices,
        required=field.required,
        label=field.label,
        help_text=field.help_text,
        initial=field.initial,
    )
