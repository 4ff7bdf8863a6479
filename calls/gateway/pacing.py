"""Drives `Pacer` (when to ping a client) and `Reading` (when to read it) with a timer of the event loop."""

import asyncio
from collections.abc import Callable

from calls.gateway.reading import Reading
from calls.rustpbx.pacer import Pacer

Gather = Callable[[int, float], None]
"""Takes a number of audio messages and the event loop time at which to read them together."""

SOONEST_S = 0.001


class Pacing:
    """Paces one client on the running event loop.

    Args:
        ping: sends a ping.
        gather: the server's GATHER extension, if it has one.
    """

    def __init__(self, ping: Callable[[], None], gather: Gather | None) -> None:
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._ping = ping
        self._gather = gather
        self._pacer = Pacer(now)
        self._reading: Reading | None = None
        self._poll_at = now
        self._timer: asyncio.TimerHandle | None = None

    @property
    def generation(self) -> str:
        """The client's generation, as far as the pacer knows it."""
        return self._pacer.generation

    def start(self) -> None:
        """Start the timer."""
        self._plan_poll(self._loop.time())

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def sent(self) -> None:
        """Note that a message is sent now."""
        self._pacer.sent(self._loop.time())

    def arrived(self, now: float, seconds: float, frames: int) -> None:
        """Account for `seconds` of audio in `frames` frames; ping if the pacer asks for it."""
        if self._pacer.frame(now, seconds, frames):
            self._ping()
        if self._pacer.deadline < self._poll_at:
            self.stop()
            self._plan_poll(now)

    def judged_every(self, cadence_bytes: int, early_bytes: int) -> None:
        """Plan reads from now on: audio is judged `cadence_bytes` at a time; `early_bytes` came before."""
        if self._gather is not None:
            self._reading = Reading(self._pacer.clock, cadence_bytes, early_bytes)

    def heard(self, now: float, size: int, frames: int) -> None:
        """Account for `size` bytes; leave a steady client unread until there is enough audio to judge."""
        if self._reading is None or self._gather is None:
            return
        self._reading.arrived(now, size, frames)
        plan = self._reading.plan(now, steady=self._pacer.is_steady)
        self._pacer.unread_until(plan and plan[1], now)
        if plan is not None:
            self._gather(*plan)

    def _poll(self) -> None:
        now = self._loop.time()
        if self._gather is not None and now >= self._pacer.deadline:
            self._gather(0, now)  # the late frames may be buffered, waiting for more
        if self._pacer.poll(now):
            self._ping()
        self._plan_poll(now)

    def _plan_poll(self, now: float) -> None:
        self._poll_at = max(self._pacer.deadline, now + SOONEST_S)
        self._timer = self._loop.call_at(self._poll_at, self._poll)
