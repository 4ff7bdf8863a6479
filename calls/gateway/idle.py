"""Whether a call still lives, which its audio alone tells.

RustPBX does not say that a caller has hung up: it leaves the socket open, and goes on to send its `ping`.
"""

import asyncio
from collections.abc import Callable

from django.conf import settings

from calls.models import EndReason

NO_AUDIO_S = 60.0  # a telephone may ring that long before any comes


class AudioTimer:
    """Ends a connection whose audio has stopped, or never came. Times are seconds of the event loop.

    Args:
        over: is called with the reason, once.
    """

    def __init__(self, over: Callable[[EndReason], None]) -> None:
        self.last_audio: float | None = None
        self._over = over
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._stopped_s: float = settings.AUDIO_STOPPED_SECONDS
        self._timer = self._loop.call_at(self._due, self._check)

    def heard(self, now: float) -> None:
        """Audio came."""
        if self.last_audio is None:  # from now on another limit counts
            self.last_audio = now
            self._timer.cancel()
            self._check()
        self.last_audio = now

    @property
    def silent_s(self) -> float | None:
        """Seconds since the last audio; None if there was none."""
        return None if self.last_audio is None else self._loop.time() - self.last_audio

    def over_for_s(self, reason: EndReason) -> float:
        """Seconds since a call was over that ends now for this reason: 0, unless its audio had to tell."""
        return (self.silent_s or 0.0) if reason is EndReason.AUDIO_STOPPED else 0.0

    def stop(self) -> None:
        """Cancel the timer."""
        self._timer.cancel()

    @property
    def _due(self) -> float:
        if self.last_audio is None:
            return self._began + NO_AUDIO_S
        return self.last_audio + self._stopped_s

    def _check(self) -> None:
        if self._loop.time() >= self._due:
            self._over(EndReason.IDLE if self.last_audio is None else EndReason.AUDIO_STOPPED)
        else:
            self._timer = self._loop.call_at(self._due, self._check)
