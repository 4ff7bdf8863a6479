"""The turns of one call: numbers them in the order in which they first have text, and emits each change."""

import time
from dataclasses import replace

from calls.events import CALLER, UNNUMBERED, Sink, Turn

JUST_NOW_S = 1.0


def monotonic_of(timestamp: float) -> float:
    """When a frame of the last second was made, in seconds of time.monotonic().

    `timestamp` is the frame's time by the wall clock, from Pipecat. If the clock was set meanwhile, the
    current time is returned.
    """
    age = time.time() - timestamp
    return time.monotonic() - (age if abs(age) < JUST_NOW_S else 0.0)


class Turns:
    """Opens, numbers and emits turns.

    Args:
        emit: is called with each turn.
        started: when the call started, in seconds of time.monotonic().
        language: of turns for which no service names a language.
    """

    def __init__(self, emit: Sink, started: float, language: str) -> None:
        self._emit = emit
        self._started = started
        self._language = language
        self._count = 0

    def open(self, speaker: str, at: float) -> Turn:
        """Make a turn that begins at `at`, in seconds of time.monotonic()."""
        return Turn(speaker=speaker, start_ms=self.ms(at) or 0, language=self._language)

    def emit(self, turn: Turn) -> Turn:
        """Emit a turn as it is now, unless it has no text; return it with its number.

        A caller's turn has only final transcripts, so it is final; an agent's is final once it has ended.
        """
        if not turn.text:
            return turn
        if turn.index == UNNUMBERED:
            turn = replace(turn, index=self._count)
            self._count += 1
        turn = replace(turn, final=turn.speaker == CALLER or turn.end_ms is not None)
        self._emit(turn)
        return turn

    def ms(self, at: float | None) -> int | None:
        """Milliseconds from the call's start to `at`; None for None."""
        return None if at is None else max(0, round((at - self._started) * 1000))
