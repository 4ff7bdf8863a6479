"""Filters that write a call's figures as people read them."""

import json
from datetime import timedelta
from typing import Any

from django import template

from calls.models import Turn

register = template.Library()

LATENCY_LABELS = {
    "total_ms": "Answered after",
    "end_of_turn_ms": "end of turn",
    "stt_ms": "speech-to-text",
    "llm_ms": "language model",
    "tts_ms": "text-to-speech",
}


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
def latency_parts(turn: Turn) -> list[tuple[str, int]]:
    """Return a turn's known latency parts as (label, ms), the whole first."""
    parts = ((label, getattr(turn, name)) for name, label in LATENCY_LABELS.items())
    return [(label, ms) for label, ms in parts if ms is not None]


@register.filter
def pretty_json(value: Any) -> str:
    """Return `value` as indented JSON text; the template escapes it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def _minutes(seconds: int) -> str:
    """Return whole seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
