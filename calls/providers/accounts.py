"""The keys of cloud providers: from the accounts in the database, else from the server's settings.

`refresh` reads the accounts, in a thread, whenever a call's profile is read. `account_of` returns what was
read last, and so may be called on the event loop.
"""

import logging
from dataclasses import dataclass, field, replace

from django.conf import settings

from calls import redaction

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Account:
    """The key of a provider, and its address; `base_url` is "" if that comes from the server's settings.

    The key is "" for a server that needs none, which only an account with a base URL can be.
    """

    key: str = field(repr=False)
    base_url: str = ""

    def __post_init__(self) -> None:
        """The key is written to no log and no page."""
        redaction.remember(self.key)

    @property
    def is_usable(self) -> bool:
        """Whether a service can be made with it."""
        return bool(self.key or self.base_url)


_stored: dict[str, Account] = {}


def refresh() -> None:
    """Read the enabled accounts from the database.

    Raises what the database raises; the accounts read before then stay in use. An account whose key cannot be
    decrypted is left out, with an error in the log.
    """
    # Imported here, as the catalogue is imported before Django's models.
    from calls.models import ProviderAccount

    global _stored  # noqa: PLW0603  one process has one set of accounts, replaced as a whole
    found = {}
    for account in ProviderAccount.objects.enabled():
        try:
            found[account.provider] = Account(account.key, account.base_url)
        except ValueError as e:
            logger.error("the key of the account %s cannot be read: %s", account, e)
    _stored = found


def account_of(provider: str, setting: str) -> Account:
    """The account for a provider of the catalogue, by its name and the setting that may hold its key.

    Without one the server's key counts, which is sent to no address that an account gives; a provider from
    elsewhere may have no such setting.
    """
    stored = _stored.get(provider, Account(""))
    return stored if stored.is_usable else replace(stored, key=getattr(settings, setting, ""))


def forget() -> None:
    """Forget the accounts that were read from the database."""
    global _stored  # noqa: PLW0603  see refresh()
    _stored = {}
