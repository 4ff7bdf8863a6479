"""What a client did wrong: told as it comes, within bounds, and stored once a kind with how often it came."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from calls.gateway.limits import Bucket
from calls.rustpbx.messages import Error, ErrorCode, Timed
from calls.rustpbx.outgoing import now_ms

ERRORS_AT_ONCE, ERRORS_PER_S = 20, 5.0

Store = Callable[[int, str, int], None]
"""Takes a mistake's code, its message, and how often it has come."""


@dataclass(slots=True)
class _Mistake:
    """One kind of mistake; `message` is the first of its kind."""

    message: str
    count: int = 0
    stored: int = 0


class Mistakes:
    """The mistakes of one client. Those before its call are stored once it begins.

    Args:
        send: sends a message to the client.
    """

    def __init__(self, send: Callable[[Timed], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._to_tell = Bucket.full(ERRORS_PER_S, ERRORS_AT_ONCE, self._loop.time())
        self._kinds: dict[tuple[ErrorCode, str], _Mistake] = {}
        self._store: Store | None = None

    def add(self, code: ErrorCode, message: str) -> None:
        """Count a mistake, tell the client unless it was told much just now, store counts of 1, 2, 4, 8 …"""
        expected = message.partition(", got")[0]  # what came may differ each time
        mistake = self._kinds.setdefault((code, expected), _Mistake(message))
        mistake.count += 1
        if self._to_tell.take(1.0, self._loop.time()):
            self._send(Error(timestamp=now_ms(), message=message, code=code))
        if mistake.count & (mistake.count - 1) == 0:
            self._store_if_new(code, mistake)

    def store_with(self, store: Store) -> None:
        """The call has begun: store what there is, and what comes."""
        self._store = store
        self.settle()

    def settle(self) -> None:
        """Store how often each mistake has come by now."""
        for (code, _), mistake in self._kinds.items():
            self._store_if_new(code, mistake)

    def _store_if_new(self, code: ErrorCode, mistake: _Mistake) -> None:
        if self._store is not None and mistake.count > mistake.stored:
            mistake.stored = mistake.count
            self._store(int(code), mistake.message, mistake.count)
