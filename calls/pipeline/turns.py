"""The turns of one call: numbered in the order in which they first had a text, emitted as they change."""

from dataclasses import replace

from calls.events import CALLER, UNNUMBERED, Sink, Turn


class Turns:
    """Opens, numbers and emits turns.

    Args:
        emit: takes them.
        started: when the call started, in seconds since 1970.
        language: of turns whose language nothing tells.
    """

    def __init__(self, emit: Sink, started: float, language: str) -> None:
        self._emit = emit
        self._started = started
        self._language = language
        self._count = 0

    def open(self, speaker: str, at: float) -> Turn:
        """A turn that begins at `at`, in seconds since 1970."""
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
