"""What signals do, the same under every server.

SIGTERM and SIGHUP (the terminal is closed): no new calls; those that run go on for up to DRAIN_SECONDS and
then hear their farewell. SIGINT (Ctrl-C): they hear it at once, for a few seconds at most. A second signal
ends them without. All that was said is stored. Only then the server itself is told to stop: it would close
sockets first.
"""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from django.conf import settings

from calls.gateway import registry
from calls.gateway.server import lifespan
from calls.process import State, this_process
from calls.recorder import ownership

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
# A signal to a whole group of processes comes twice if a parent passes it on as well, as granian and make do.
SAME_S = 1.0
FAREWELLS_S = 5.0  # all that Ctrl-C waits for


class Ending:
    """Ends the process's calls when a signal says so. For the main thread, with its event loop running.

    Args:
        stop: stops the server. By default the signals are given back to it and SIGINT is raised.
    """

    def __init__(self, stop: Callable[[], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = stop or self._give_back
        self._before: dict[signal.Signals, Any] = {}
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._interrupted = asyncio.Event()
        self._at_once = asyncio.Event()

    def watch(self) -> None:
        """Take the signals over, except those that are ignored (`nohup`)."""
        for each in SIGNALS:
            handler = signal.getsignal(each)
            if handler is not signal.SIG_IGN:
                had_one = self._loop.remove_signal_handler(each)  # which nobody can put back
                self._before[each] = signal.SIG_DFL if had_one else handler
                self._loop.add_signal_handler(each, self._take, each)

    def _take(self, number: signal.Signals) -> None:
        now = self._loop.time()
        if self._task is None:
            self._began = now
            this_process.move(State.DRAINING)
            logger.warning(
                "%s: no new calls; those that run (%d) have %d s; a second signal ends them at once",
                number.name, len(registry.live), 0 if number == signal.SIGINT else settings.DRAIN_SECONDS,
            )  # fmt: skip
            self._task = self._loop.create_task(self._end(), name="ending")
        if now - self._began > SAME_S:
            self._at_once.set()
        elif number == signal.SIGINT:  # also if it comes with a SIGTERM, which may overtake it
            self._interrupted.set()

    async def _end(self) -> None:
        telling = asyncio.create_task(ownership.tell())
        try:
            await self._unless_at_once(
                registry.ended(settings.DRAIN_SECONDS, parked_too=True), self._interrupted.wait()
            )
            if not self._at_once.is_set():
                within = FAREWELLS_S if self._interrupted.is_set() else None
                await self._unless_at_once(registry.say_goodbye(), within=within)
            telling.cancel()
            await asyncio.wait({telling})
            await lifespan.shutdown()
        finally:
            self._stop()

    async def _unless_at_once(self, *works: Coroutine[Any, Any, Any], within: float | None = None) -> None:
        """Work until one is done, a second signal comes or the seconds are over; cancel the rest."""
        tasks = [asyncio.create_task(work) for work in (*works, self._at_once.wait())]
        await asyncio.wait(tasks, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def _give_back(self) -> None:
        """Give the signals back and raise the one that servers stop at with status 0.

        A server whose handlers were the event loop's gets no chance to clean up; there is nothing left to.
        """
        for each, handler in self._before.items():
            self._loop.remove_signal_handler(each)
            signal.signal(each, handler)
        own = signal.getsignal(signal.SIGINT) not in (signal.SIG_DFL, signal.SIG_IGN)
        signal.raise_signal(signal.SIGINT if own else signal.SIGTERM)
