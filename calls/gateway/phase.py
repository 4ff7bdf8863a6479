"""Where a connection is in its life, and why it ends."""

import asyncio
from enum import Enum

from calls.gateway.codes import NORMAL
from calls.models import EndReason


class Phase(Enum):
    """A connection's phases, in their order; any but the last may be skipped."""

    WAITING = "accepted; no call yet"
    STARTING = "a call is being made"
    RUNNING = "a call runs"
    LEAVING = "the end is decided: nothing is read any more"
    CLOSED = "nothing is left running"


_NEXT = {
    Phase.WAITING: {Phase.STARTING, Phase.LEAVING},
    Phase.STARTING: {Phase.RUNNING, Phase.LEAVING},
    Phase.RUNNING: {Phase.LEAVING},
    Phase.LEAVING: {Phase.CLOSED},
    Phase.CLOSED: set(),
}


class Life:
    """One connection's phase. Every move says whether it was made: the first reason to leave counts."""

    def __init__(self) -> None:
        self.phase = Phase.WAITING
        self.closed = asyncio.Event()
        self.reason = EndReason.CLOSED
        self.code = NORMAL
        self.error = ""

    def start(self) -> bool:
        """A call is being made now."""
        return self._move(Phase.STARTING)

    def run(self) -> bool:
        """The call runs."""
        return self._move(Phase.RUNNING)

    def leave(self, reason: EndReason, code: int, error: str = "") -> bool:
        """The connection ends for this reason, with this close code."""
        if not self._move(Phase.LEAVING):
            return False
        self.reason, self.code, self.error = reason, code, error
        return True

    def close(self) -> bool:
        """Everything is done."""
        if not self._move(Phase.CLOSED):
            return False
        self.closed.set()
        return True

    @property
    def is_ending(self) -> bool:
        """Whether the end is decided."""
        return self.phase in (Phase.LEAVING, Phase.CLOSED)

    def _move(self, phase: Phase) -> bool:
        if phase not in _NEXT[self.phase]:
            return False
        self.phase = phase
        return True
