"""A figure of a version's calls, and how it differs from the version before."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django import template

from calls.profiles.results import Results
from calls.templatetags.call_format import duration

register = template.Library()

NOTABLE = 0.05  # of a figure; a smaller difference has no colour


@dataclass(frozen=True)
class _Measure:
    """How a figure is written, and a difference; from which on it is one; and whether less is better."""

    written: Callable[[Any], str]
    least: float
    less_is_better: bool = True
    unit: str = ""


_MEASURES = {
    "failed_percent": _Measure(lambda value: f"{value:.1f}".removesuffix(".0") + " %", 0.05, unit=" points"),
    "p50_ms": _Measure(lambda value: f"{value} ms", 1),
    "p95_ms": _Measure(lambda value: f"{value} ms", 1),
    "interruptions": _Measure(lambda value: f"{value:.1f}", 0.05),
    "length_s": _Measure(lambda value: duration(timedelta(seconds=value)), 1, less_is_better=False),
}


@register.inclusion_tag("profiles/_figure.html")
def figure(now: Results, before: Results | None, name: str) -> dict[str, Any]:
    """Show a figure, and what it is more or less than before if both are of calls enough."""
    measure, value = _MEASURES[name], getattr(now, name)
    if value is None:
        return {}
    shown: dict[str, Any] = {"value": measure.written(value)}
    earlier = getattr(before, name) if before and before.is_telling and now.is_telling else None
    if earlier is not None:
        difference = value - earlier
        shown["compared"] = True
        if abs(difference) >= measure.least:
            change = measure.written(abs(difference))
            shown["change"] = change.replace(" %", measure.unit)
            shown["is_less"] = difference < 0
            if measure.less_is_better and abs(difference) >= NOTABLE * earlier:
                shown["tone"] = "good" if difference < 0 else "bad"
    return shown
