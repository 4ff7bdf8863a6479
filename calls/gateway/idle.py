"""The timer that ends a connection whose client sends no messages."""

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls `idle` once `seconds` have passed since `last_message()`, a time of the event loop."""

    def __init__(self, seconds: float, last_message: Callable[[], float], idle: Callable[[], None]) -> None:
        self._seconds = seconds
        self._last_message = last_message
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._check)

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()

    def _check(self) -> None:
        silent = self._loop.time() - self._last_message()
        if silent >= self._seconds:
            self._idle()
        else:
            self._timer = self._loop.call_later(self._seconds - silent, self._check)
