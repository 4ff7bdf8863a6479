"""Where the time before an answer went, as numbers for a small bar."""

from dataclasses import dataclass

from django import template

from calls.models import Turn

register = template.Library()

WIDTH = 1000  # units of the drawing, which is stretched to the page
SHORTEST_SCALE_MS = 2000  # bars of a call whose answers were all quick stay short
SLOW_MS = 1500
LABELS = {"wait": "end of turn", "stt": "heard", "llm": "model", "tts": "voice"}  # short: they share a line


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
def timing(turn: Turn, worst_ms: int | None) -> Timing | None:
    """Return the wait before a turn, drawn on the scale of the call's worst answer; None if not measured."""
    whole, pieces = _measured(turn)
    if whole is None and not pieces:
        return None
    scale = WIDTH / max(worst_ms or 0, SHORTEST_SCALE_MS, sum(pieces.values()))
    parts, x = [], 0.0
    for name, ms in pieces.items():
        parts.append(Part(name, LABELS[name], ms, round(x, 1), round(ms * scale, 1)))
        x += ms * scale
    return Timing(whole, parts)


def _measured(turn: Turn) -> tuple[int | None, dict[str, int]]:
    """Return the whole wait (ms) and its parts in their order, as far as they were measured.

    What the parts leave of the whole is the wait for the end of the turn.
    """
    stored = {"stt": "stt", "llm": "llm_ttft", "tts": "tts_ttfb"}
    found = {name: turn.latency.get(key) for name, key in stored.items()}
    parts = {name: round(ms) for name, ms in found.items() if ms is not None}
    if (whole := turn.latency.get("turn_latency")) is None:
        return None, parts
    rest = round(whole) - sum(parts.values())
    return round(whole), {"wait": rest, **parts} if rest > 0 else parts
