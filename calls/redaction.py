"""Takes secrets out of text that people get to see: logs, events, pages, messages to clients.

A secret is known (a provider's key, once it has been read), or looks like one.
"""

import logging
import re

HIDDEN = "…"
SHORTEST = 6  # characters of a known secret: shorter ones are part of ordinary words

_known: set[str] = set()
_VALUE = r"""[^\s"'&,;)}\]]+"""
# What is in the group stays.
_PATTERNS = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#@]+(?=@)",  # user:password@ in a URL
        r"(\bbearer\s+)" + _VALUE,
        r"""(\b(?:authorization|(?:x-)?api[-_ ]?key)["']?\s*[:=]\s*["']?(?:bearer\s+|basic\s+)?)""" + _VALUE,
        r"(\b[\w-]*(?:key|token|ticket|secret|password|passwd|pwd|sig|signature)=)" + _VALUE,
        r"(\b(?:sk|pk|rk|key)[-_])[\w*-]{6,}",  # how providers' keys begin
    )
]


def remember(secret: str) -> None:
    """Hide this text from now on, wherever it is written."""
    if len(secret) >= SHORTEST:
        _known.add(secret)


def redacted(text: str) -> str:
    """The text with "…" for every secret in it."""
    for secret in _known:
        text = text.replace(secret, HIDDEN)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return text


class RedactingFormatter(logging.Formatter):
    """Writes a record, and the traceback with it, without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text."""
        return redacted(super().format(record))
