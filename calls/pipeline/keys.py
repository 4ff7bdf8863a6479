"""Makes the keys that the caller presses part of the caller's turn, as text."""

from typing import Any

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.frames.frames import Frame, TranscriptionFrame
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.frame_processor import FrameDirection

from calls.events import KEYS_PRESSED, KEYS_WITHIN_S

WITHIN_S = 2.0  # longest time between two keys of one turn; "#" ends the turn at once
PREFIX = "Keys pressed: "


def key_of(digit: str) -> KeypadEntry | None:
    """Pipecat's name of a key; None for A to D, which Pipecat does not have."""
    return KeypadEntry(digit) if digit in list(KeypadEntry) else None


class Keys(DTMFAggregator):
    """Turns pressed keys into a transcript. The first key interrupts the agent, if that is allowed.

    Args:
        interrupt: whether it is allowed.
    """

    def __init__(self, *, interrupt: bool, **kwargs: Any) -> None:
        super().__init__(timeout=KEYS_WITHIN_S, prefix=KEYS_PRESSED, **kwargs)
        self._interrupt = interrupt

    async def broadcast_interruption(self) -> None:
        """Interrupt the agent, if that is allowed."""
        if self._interrupt:
            await super().broadcast_interruption()

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push a frame; keys are not lost to an interruption, such as the next keys'."""
        if isinstance(frame, TranscriptionFrame) and frame.text.startswith(KEYS_PRESSED):
            frame.interruptible = False
        await super().push_frame(frame, direction)
