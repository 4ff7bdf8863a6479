"""Secrets as they are stored: encrypted with a key that is derived from SECRET_KEY."""

import base64
from functools import lru_cache
from typing import TYPE_CHECKING

from django.conf import settings

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet


class Unreadable(ValueError):
    """A stored secret was encrypted under another SECRET_KEY, or is damaged."""


def seal(secret: str) -> str:
    """Return `secret` encrypted; "" stays ""."""
    return _cipher().encrypt(secret.encode()).decode() if secret else ""


def unseal(sealed: str) -> str:
    """Return what `seal` was given, under SECRET_KEY or one of SECRET_KEY_FALLBACKS; "" stays "".

    Raises Unreadable.
    """
    from cryptography.fernet import InvalidToken

    if not sealed:
        return ""
    try:
        return _cipher().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable("it was encrypted under another SECRET_KEY") from None


def _cipher() -> "MultiFernet":
    return _cipher_of((settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@lru_cache(maxsize=4)
def _cipher_of(keys: tuple[str, ...]) -> "MultiFernet":
    # Imported when first needed: commands and pages that read no secret do without.
    from cryptography.fernet import Fernet, MultiFernet
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    def derived(key: str) -> bytes:
        hkdf = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"voiceagent provider account")
        return base64.urlsafe_b64encode(hkdf.derive(key.encode()))

    return MultiFernet([Fernet(derived(key)) for key in keys])
