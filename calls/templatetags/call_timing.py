"""Where the time before an answer went, as numbers for a small bar."""

from collections.abc import Mapping
from dataclasses import dataclass

from django import template

register = template.Library()

WIDTH = 1000  # units of the drawing, which is stretched to the page
SHORTEST_SCALE_MS = 2000  # bars of a call whose answers were all quick stay short
SLOW_MS = 1500
WHOLE = "turn_latency"
PARTS = {"stt": "heard", "llm_ttft": "model", "tts_ttfb": "voice"}  # short: they share a line


@dataclass(frozen=True)
class Part:
    """One part of the wait: its name, its ms, and its place in drawing units."""

    name: str
    label: str
    ms: int
    x: float
    width: float


@dataclass(frozen=True)
class Timing:
    """The wait before an answer (ms; None if only parts were measured) and its parts."""

    whole_ms: int | None
    parts: list[Part]

    @property
    def is_slow(self) -> bool:
        """Whether a caller would have noticed the wait."""
        return (self.whole_ms or 0) > SLOW_MS


@register.filter
def timing(latency: Mapping[str, float], worst_ms: int | None) -> Timing | None:
    """Return the parts of a turn's latency, drawn on the scale of the call's worst answer; None without any.

    What the parts leave of the whole is the wait for the end of the turn.
    """
    whole = latency.get(WHOLE)
    known = {name: round(latency[name]) for name in PARTS if latency.get(name) is not None}
    if whole is None and not known:
        return None
    labels = {"wait": "end of turn", **PARTS}
    rest = max(0, round(whole) - sum(known.values())) if whole is not None else 0
    pieces = {"wait": rest, **known} if rest else known
    scale = WIDTH / max(worst_ms or 0, SHORTEST_SCALE_MS, sum(pieces.values()))
    parts, x = [], 0.0
    for name, ms in pieces.items():
        parts.append(Part(name, labels[name], ms, round(x, 1), round(ms * scale, 1)))
        x += ms * scale
    return Timing(None if whole is None else round(whole), parts)
