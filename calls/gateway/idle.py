"""A client that says nothing at all for a while is gone."""

import asyncio
from collections.abc import Callable


class IdleTimer:
    """Calls `idle` once `seconds` have passed since `last_message()`, in seconds of the event loop."""

    def __init__(self, seconds: float, last_message: Callable[[], float], idle: Callable[[], None]) -> None:
        self._seconds = seconds
        self._last_message = last_message
        self._idle = idle
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(seconds, self._check)

    def stop(self) -> None:
        """Call nobody any more."""
        self._timer.cancel()

    def _check(self) -> None:
        silent = self._loop.time() - self._last_message()
        if silent >= self._seconds:
            self._idle()
        else:
            self._timer = self._loop.call_later(self._seconds - silent, self._check)
