"""The picture of a call: who spoke when, as numbers for an SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from calls.models import CallEvent, CallSession, EventKind, Severity, Speaker, Turn

WIDTH = 1000  # units of the drawing, which is stretched to the page
MIN_BAR = 3  # a turn shorter than that would not be seen
TICKS = 4


@dataclass(frozen=True)
class Bar:
    """A turn: its place and width in drawing units."""

    turn: Turn
    x: float
    width: float

    @property
    def end(self) -> float:
        """Where the bar ends, in drawing units."""
        return round(self.x + self.width, 2)


@dataclass(frozen=True)
class Mark:
    """An event: its place in drawing units."""

    event: CallEvent
    x: float


@dataclass(frozen=True)
class Timeline:
    """What is drawn: two lanes of bars, the marks over both, and the times (ms) under them."""

    caller: list[Bar]
    agent: list[Bar]
    marks: list[Mark]
    ticks: list[int]
    total_ms: int
    width: int = WIDTH

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not (self.caller or self.agent or self.marks)

    @property
    def interrupted(self) -> int:
        """How many turns were cut short."""
        return sum(bar.turn.interrupted for bar in [*self.caller, *self.agent])

    @property
    def kinds(self) -> set[str]:
        """What kinds of events are marked."""
        return {mark.event.kind for mark in self.marks}

    @property
    def errors(self) -> int:
        """How many errors and warnings there were."""
        return sum(mark.event.severity != Severity.INFO for mark in self.marks)

    @property
    def caller_ms(self) -> int:
        """How long the caller spoke."""
        return _spoken_ms(self.caller)

    @property
    def agent_ms(self) -> int:
        """How long the agent spoke."""
        return _spoken_ms(self.agent)


def draw(
    session: CallSession,
    turns: Sequence[Turn],
    events: Sequence[CallEvent],
    start_ms: int = 0,
    end_ms: int | None = None,
) -> Timeline:
    """Place the turns, and the events worth a mark, on the call's length, or on a part of it.

    The part is between `start_ms` and `end_ms`, both from the call's start; None is the call's end. An active
    call is as long as what is known of it; a turn still open then reaches to its end.
    """
    ends = [turn.end_ms or turn.start_ms for turn in turns]
    whole = round(session.duration.total_seconds() * 1000) if session.duration else 0
    end_ms = end_ms or max([whole, *ends, *(event.ms for event in events)])
    total = max(1, end_ms - start_ms)

    def place(ms: int) -> float:
        return (ms - start_ms) / total * WIDTH

    def bar(turn: Turn) -> Bar:
        end = turn.end_ms or (end_ms if session.is_active else turn.start_ms)
        x = min(place(turn.start_ms), WIDTH - MIN_BAR)
        width = max((end - turn.start_ms) / total * WIDTH, MIN_BAR)
        return Bar(turn, round(x, 2), round(min(width, WIDTH - x), 2))

    return Timeline(
        caller=[bar(turn) for turn in turns if turn.speaker == Speaker.CALLER],
        agent=[bar(turn) for turn in turns if turn.speaker == Speaker.AGENT],
        marks=[
            Mark(event, round(place(event.ms), 2))
            for event in events
            if event.kind != EventKind.CONFIGURATION
        ],
        ticks=[start_ms + total * n // TICKS for n in range(TICKS + 1)],
        total_ms=total,
    )


def _spoken_ms(bars: list[Bar]) -> int:
    """Return the time the closed turns take together."""
    return sum(max(0, (bar.turn.end_ms or bar.turn.start_ms) - bar.turn.start_ms) for bar in bars)
