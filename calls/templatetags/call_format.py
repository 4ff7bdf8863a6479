"""Filters that write a call's figures as people read them."""

import json
from datetime import timedelta
from typing import Any

from django import template

register = template.Library()

LATENCY_LABELS = {
    "turn_latency": "Answered after",
    "stt": "speech-to-text",
    "llm_ttft": "language model",
    "tts_ttfb": "text-to-speech",
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
def latency_parts(latency: dict[str, float]) -> list[tuple[str, int]]:
    """Return a turn's known latency parts as (label, ms), the whole first."""
    parts = ((label, latency.get(key)) for key, label in LATENCY_LABELS.items())
    return [(label, round(ms)) for label, ms in parts if ms is not None]


@register.filter
def pretty_json(value: Any) -> str:
    """Return `value` as indented JSON text; the template escapes it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


@register.filter
def details(detail: dict[str, Any]) -> dict[str, Any]:
    """Return an event's detail without its message."""
    return {key: value for key, value in detail.items() if key != "message"}


def _minutes(seconds: int) -> str:
    """Return whole seconds as m:ss or h:mm:ss."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
