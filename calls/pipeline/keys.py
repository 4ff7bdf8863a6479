"""The keys that the caller presses, as words of his turn."""

from typing import Any

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator

WITHIN_S = 2.0  # between two keys of one turn; "#" ends it at once
PREFIX = "Keys pressed: "


def key_of(digit: str) -> KeypadEntry | None:
    """Pipecat's name of a key; None for the letters, which it does not know."""
    return KeypadEntry(digit) if digit in list(KeypadEntry) else None


class Keys(DTMFAggregator):
    """Makes words of keys. The first one interrupts the agent, if it may be interrupted.

    Args:
        interrupt: whether it may.
    """

    def __init__(self, *, interrupt: bool, **kwargs: Any) -> None:
        super().__init__(timeout=WITHIN_S, prefix=PREFIX, **kwargs)
        self._interrupt = interrupt

    async def broadcast_interruption(self) -> None:
        """Interrupt the agent."""
        if self._interrupt:
            await super().broadcast_interruption()
