"""The phases of a connection, and why it ends."""

import asyncio
from enum import Enum

from calls.gateway.codes import NORMAL
from calls.models import EndReason


class Phase(Enum):
    """A connection's phases, in order."""

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
    """One connection's phase. Each move returns whether it was made: the first reason to leave counts."""

    def __init__(self) -> None:
        self.phase = Phase.WAITING
        self.closed = asyncio.Event()
        self.reason = EndReason.CLOSED
        self.code = NORMAL
        self.error = ""

    def start(self) -> bool:
        """Move to STARTING."""
        return self._move(Phase.STARTING)

    def run(self) -> bool:
        """Move to RUNNING."""
        return self._move(Phase.RUNNING)

    def leave(self, reason: EndReason, code: int, error: str = "") -> bool:
        """Move to LEAVING, for this reason and with this close code."""
        if not self._move(Phase.LEAVING):
            return False
        self.reason, self.code, self.error = reason, code, error
        return True

    def close(self) -> bool:
        """Move to CLOSED and set `closed`."""
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
