"""Places kept for calls that are about to connect: whoever was told to come is not refused then."""

import threading
import time


class Places:
    """Places by the call's key, each for a time. Any thread may ask."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def keep(self, key: str, seconds: float, room: int | None) -> bool:
        """Keep a place for `key`, anew if it has one; whether there is one.

        `room` is how many may be kept besides those that talk, None if as many as come.
        """
        with self._lock:
            self._forget()
            if key not in self._until and room is not None and len(self._until) >= room:
                return False
            self._until[key] = time.monotonic() + seconds
            return True

    def release(self, key: str) -> None:
        """The call has come, or will not."""
        with self._lock:
            self._until.pop(key, None)

    @property
    def kept(self) -> int:
        """How many places are kept."""
        with self._lock:
            self._forget()
            return len(self._until)

    def _forget(self) -> None:
        now = time.monotonic()
        for key in [key for key, until in self._until.items() if until <= now]:
            del self._until[key]


places = Places()
"""Those of this process."""
