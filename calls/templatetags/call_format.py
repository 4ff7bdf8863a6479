"""Filters that write a call's figures as people read them."""

import json
import re
import unicodedata
from datetime import datetime, timedelta
from typing import Any

from django import template
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import escape
from django.utils.safestring import mark_safe

from calls.events import KEYS_PRESSED
from calls.models import CallSession

register = template.Library()

_KEYS = re.compile(re.escape(KEYS_PRESSED) + r"([0-9*#]+)")
KIND_LABELS = {"stt": "speech-to-text", "llm": "language model", "tts": "text-to-speech"}


@register.filter
def ago(moment: datetime) -> str:
    """Return a recent time as "just now" or "3 min ago", one of today as "today, 10:00", others in full."""
    seconds = (timezone.now() - moment).total_seconds()
    local = timezone.localtime(moment)
    if 0 <= seconds < 60:
        return "just now"
    if 0 <= seconds < 3600:
        return f"{seconds // 60:.0f} min ago"
    if local.date() == timezone.localdate():
        return f"today, {date_format(local, 'TIME_FORMAT')}"
    return date_format(local, "DATETIME_FORMAT")


@register.filter
def who(call: CallSession) -> str:
    """Return who called, for people."""
    return call.caller or "Unknown caller"


@register.filter
def lasted(call: CallSession) -> timedelta:
    """Return how long the call lasted, or has lasted so far."""
    return (call.ended_at or timezone.now()) - call.started_at


@register.filter
def provider_name(provider: str) -> str:
    """Return the label of an event's provider, which is given as "stt" or "stt/cartesia"."""
    kind, _, name = provider.partition("/")
    label = KIND_LABELS.get(kind, kind)
    return f"{label}, {name}" if name else label


@register.filter
def clock(ms: int | None) -> str:
    """Return ms as minutes, seconds and tenths, such as "1:05.3"; empty for None."""
    return "" if ms is None else f"{_minutes(ms // 1000)}.{ms % 1000 // 100}"


@register.filter
def clock_seconds(ms: int) -> str:
    """Return ms as minutes and whole seconds, such as "1:05"."""
    return _minutes(round(ms / 1000))


@register.filter
def duration(value: timedelta | None) -> str:
    """Return a duration as minutes and seconds, such as "1:05" or "1:02:03"; empty for None."""
    return "" if value is None else _minutes(max(0, round(value.total_seconds())))


@register.filter
def keys_shown(text: str) -> str:
    """Return what a caller said as HTML, in which the keys he pressed look like keys."""
    return mark_safe(_KEYS.sub(_as_keys, escape(text)))  # noqa: S308  it is escaped


def _as_keys(pressed: re.Match[str]) -> str:
    return KEYS_PRESSED + " ".join(f"<kbd>{key}</kbd>" for key in pressed[1])


@register.filter
def pretty_json(value: Any) -> str:
    """Return `value` as indented JSON text; the template escapes it. What is invisible is escaped by JSON.

    So is half a character, which no encoding has.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(
        json.dumps(character)[1:-1] if unicodedata.category(character) in ("Cf", "Cs") else character
        for character in text
    )


def _minutes(seconds: int) -> str:
    """Return whole seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
