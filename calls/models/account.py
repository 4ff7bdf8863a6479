"""Provider accounts: the keys and addresses with which cloud providers are used."""

import re
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from .behaviour import PROVIDER_CHARS
from .sealing import seal, unseal


def validate_base_url(url: str) -> None:
    """Raise ValidationError unless `url` is that of a web server, of whatever name: "ollama" is one, too."""
    try:
        parts = urlsplit(url)
        named = re.fullmatch(r"[\w.:-]+", parts.hostname or "") and parts.port != 0
    except ValueError:  # a port that is no number, a bracket too many
        named = False
    is_plain = re.search(r"[\s?#\\]", url) is None
    if not (named and is_plain and parts.scheme in ("http", "https", "ws", "wss")):
        raise ValidationError("Enter a URL such as https://api.openai.com/v1 or http://ollama:11434/v1.")


class ProviderAccountQuerySet(models.QuerySet["ProviderAccount"]):
    """Finding accounts."""

    def enabled(self) -> "ProviderAccountQuerySet":
        """Return the accounts in use, at most one for each provider."""
        return self.filter(is_enabled=True)


class ProviderAccount(models.Model):
    """An account with a provider. Its key is stored encrypted, and nothing but `key` shows it."""

    # Not a choice: the catalogue is the one list of providers.
    provider = models.CharField(max_length=PROVIDER_CHARS, help_text="The provider's name in the catalogue.")
    label = models.CharField(max_length=80, blank=True, help_text="What people call this account.")
    base_url = models.CharField(
        "base URL",
        max_length=500,
        blank=True,
        validators=[validate_base_url],
        help_text="Where the provider is reached, such as https://api.openai.com/v1 or "
        "wss://api.cartesia.ai. Empty: where the server's settings say.",
    )
    sealed_key = models.TextField(blank=True, editable=False, help_text="The key, encrypted.")
    is_enabled = models.BooleanField(
        "enabled", default=True, help_text="Calls use it. One account of each provider can be enabled."
    )
    created_at = models.DateTimeField(auto_now_add=True, help_text="When the account was added.")
    updated_at = models.DateTimeField(auto_now=True, help_text="When the account was last saved.")

    objects = ProviderAccountQuerySet.as_manager()

    class Meta:
        ordering = ["provider", "label", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["provider"],
                condition=Q(is_enabled=True),
                name="one_enabled_account",
                violation_error_message="Another account of this provider is enabled.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.provider} ({self.label})" if self.label else self.provider

    @property
    def key(self) -> str:
        """The provider's key; "" if none is set.

        Raises Unreadable if it was encrypted under another SECRET_KEY.
        """
        return unseal(self.sealed_key)

    @key.setter
    def key(self, key: str) -> None:
        self.sealed_key = seal(key)

    @property
    def has_key(self) -> bool:
        """Whether a key is set, readable or not."""
        return bool(self.sealed_key)
