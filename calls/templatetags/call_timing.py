"""The parts of the wait before an answer, as numbers for drawing a small bar."""

from dataclasses import dataclass

from django import template

from calls.models import Turn

register = template.Library()

WIDTH = 1000  # units of the drawing, which is stretched to the page
SHORTEST_SCALE_MS = 2000  # the scale's least maximum: if all answers were quick, all bars are short
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
        """Whether a caller notices a wait as long as this."""
        return (self.whole_ms or 0) > SLOW_MS


@register.filter
def timing(turn: Turn, worst_ms: int | None) -> Timing | None:
    """Return the wait before a turn, on a scale up to the call's longest wait; None if not measured."""
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

    The words ("stt") come during the wait for the end of the turn; "wait" is the rest of it. If the wait for
    the end of the turn was not measured, "wait" is the whole less the other parts.
    """
    found: dict[str, int | None] = {"stt": turn.stt_ms, "wait": None, "llm": turn.llm_ms, "tts": turn.tts_ms}
    known = sum(ms or 0 for ms in found.values())
    if turn.end_of_turn_ms is not None:
        found["wait"] = turn.end_of_turn_ms - (turn.stt_ms or 0)
    elif turn.total_ms is not None:
        found["wait"] = turn.total_ms - known
    parts = {name: ms for name, ms in found.items() if ms is not None}
    return turn.total_ms, {name: ms for name, ms in parts.items() if ms > 0 or name != "wait"}
