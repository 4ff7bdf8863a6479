"""The form of a provider account. The providers offered are the catalogue's."""

from typing import Any
from urllib.parse import urlsplit

from django import forms

from calls.admin.fields import offer
from calls.models import ProviderAccount
from calls.models.account import validate_base_url
from calls.providers import catalogue


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
        offer(self, "provider", catalogue.account_choices())

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
