"""How long a service may take to begin: one that says nothing in time is taken for dead."""

import asyncio
from collections.abc import Callable

from calls.events import LLM, STT, TTS

DUE_S = {STT: 5.0, LLM: 8.0, TTS: 4.0}


class Watchdog:
    """Watches one service at a time.

    Args:
        overdue: is called with the part that did not begin, and the seconds it had.
    """

    def __init__(self, overdue: Callable[[str, float], None]) -> None:
        self._overdue = overdue
        self._timer: asyncio.TimerHandle | None = None

    def expect(self, part: str) -> None:
        """Give this part its time from now on."""
        self.stop()
        due = DUE_S[part]
        self._timer = asyncio.get_running_loop().call_later(due, self._overdue, part, due)

    def stop(self) -> None:
        """Nothing is due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
