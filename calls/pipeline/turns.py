"""The turns of one call: numbers them in the order in which they first have text, and emits each change."""

import time
from collections.abc import Mapping
from dataclasses import replace

from pipecat.frames.frames import TTSTextFrame

from calls.events import AGENT, CALLER, UNNUMBERED, Sink, Turn
from calls.pipeline.sentences import Words

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


class AgentTurn:
    """The agent's turn while it is spoken: the words that were heard, whatever else the model wrote.

    All times are seconds of time.monotonic().
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._turn: Turn | None = None
        self._words = Words()
        self._is_done = False  # whether its reply is over: what is said next is another turn

    def begin(self, now: float, latencies: Mapping[str, int] | None = None) -> Turn:
        """The turn; a new one if there is none or its reply is over.

        `latencies` is what was measured if the caller has waited for it: ms by field of Turn.
        """
        if self._turn and self._is_done and self._turn.end_ms is None:
            self._end(now)
        if self._turn is None or self._is_done:
            self._turn = self._turns.open(AGENT, now)
            self._words.clear()
            self._is_done = False
        if latencies:
            self._turn = replace(self._turn, **latencies)  # type: ignore[arg-type]  # names of Turn's fields
        return self._turn

    def word(self, frame: TTSTextFrame, now: float) -> None:
        """A word was heard; it may come just before its voice."""
        turn = self.begin(now)
        if frame.append_to_context:
            self._words.add(frame)
            self._turn = self._turns.emit(replace(turn, text=self._words.text))

    def pause(self, now: float) -> None:
        """The voice stopped: for good if the reply is over."""
        if self._turn is not None:
            self._end(now)
        if self._is_done:
            self._turn = None

    def done(self, now: float, *, speaking: bool) -> None:
        """The reply is over. Words that come yet, of a voice that stands in, are a turn of their own."""
        self._is_done = self._turn is not None
        if self._turn is not None and not speaking:
            if self._turn.end_ms is None:
                self._end(now)
            self._turn = None

    def interrupt(self, now: float) -> Turn | None:
        """The caller takes over; the turn as it was heard, None if there was none."""
        if self._turn is None:
            return None
        turn = replace(self._turn, interrupted=True, end_ms=self._turns.ms(now))
        self._turn = self._turns.emit(turn) if turn.text else None
        self._is_done = True
        return turn

    def leave(self) -> None:
        """What is said next is another turn."""
        self._turn = None

    def _end(self, now: float) -> None:
        if self._turn is not None:
            self._turn = self._turns.emit(replace(self._turn, end_ms=self._turns.ms(now)))
