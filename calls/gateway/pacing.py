"""When one client is pinged and when it is read: the timer around `Pacer` and `Reading`."""

import asyncio
from collections.abc import Callable

from calls.gateway.reading import Reading
from calls.rustpbx.pacer import Pacer

Gather = Callable[[int, float], None]
"""Lets so many messages of audio come before they are read, which is expected at a time of the event loop."""

SOONEST_S = 0.001


class Pacing:
    """Paces one client on the running event loop.

    Args:
        ping: sends a ping.
        gather: of the server, if it can let audio gather.
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
        """The client's generation, as far as its streaming shows it."""
        return self._pacer.generation

    def start(self) -> None:
        """Begin to ping."""
        self._plan_poll(self._loop.time())

    def stop(self) -> None:
        """Ping no more."""
        if self._timer is not None:
            self._timer.cancel()

    def sent(self) -> None:
        """A message is sent."""
        self._pacer.sent(self._loop.time())

    def arrived(self, now: float, seconds: float, frames: int) -> None:
        """So many seconds of audio have come in so many frames."""
        if self._pacer.frame(now, seconds, frames):
            self._ping()
        if self._pacer.deadline < self._poll_at:
            self.stop()
            self._plan_poll(now)

    def judged_every(self, cadence_bytes: int, early_bytes: int) -> None:
        """From now on the audio is judged in pieces of so many bytes; so many have come before."""
        if self._gather is not None:
            self._reading = Reading(self._pacer.clock, cadence_bytes, early_bytes)

    def heard(self, now: float, size: int, frames: int) -> None:
        """So many bytes were heard. A client that streams steadily is not read until a piece has come."""
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
            self._gather(0, now)  # what is late may be here and wait for more
        if self._pacer.poll(now):
            self._ping()
        self._plan_poll(now)

    def _plan_poll(self, now: float) -> None:
        self._poll_at = max(self._pacer.deadline, now + SOONEST_S)
        self._timer = self._loop.call_at(self._poll_at, self._poll)
