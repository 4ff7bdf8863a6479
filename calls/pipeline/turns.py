"""The turns of one call: numbered in the order in which they first had a text, emitted as they change."""

import time
from dataclasses import replace

from calls.events import CALLER, UNNUMBERED, Sink, Turn

JUST_NOW_S = 1.0


def monotonic_of(timestamp: float) -> float:
    """The moment of a frame that was made within the last second, in seconds of time.monotonic().

    `timestamp` is what Pipecat took from the wall clock. If that has been set since, the frame is of now.
    """
    age = time.time() - timestamp
    return time.monotonic() - (age if abs(age) < JUST_NOW_S else 0.0)


class Turns:
    """Opens, numbers and emits turns.

    Args:
        emit: takes them.
        started: when the call started, in seconds of time.monotonic().
        language: of turns whose language nothing tells.
    """

    def __init__(self, emit: Sink, started: float, language: str) -> None:
        self._emit = emit
        self._started = started
        self._language = language
        self._count = 0

    def open(self, speaker: str, at: float) -> Turn:
        """A turn that begins at `at`, in seconds of time.monotonic()."""
        return Turn(speaker=speaker, start_ms=self.ms(at) or 0, language=self._language)

    def emit(self, turn: Turn) -> Turn:
        """Emit a turn as it stands, unless nothing was said in it; the turn with its number.

        Of the caller's turn only finals are kept; the agent's text is final once it is spoken.
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
