"""Stores calls while they go on: the only writer of the database during a call.

Calls hand over rows and never wait. One task takes what has gathered, at least every quarter of a second, and
writes it in one transaction on a thread of its own. The text of a turn that goes on is written at most once a
second. A database that is away is tried again; what gathers meanwhile is bounded.
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError

from calls.database import DatabaseThreads
from calls.models import CallEnd, CallStart, Description, EventRow, TurnRow
from calls.recorder import notify as live
from calls.recorder.batch import Batch
from calls.recorder.interim import InterimTurns

logger = logging.getLogger(__name__)

GATHER_S = 0.1  # a batch waits this long for more; with the write itself it stays under 250 ms
RETRY_S = 1.0
MOST_ROWS = 20_000


class Recorder:
    """Takes rows at once and writes them behind the calls. Lives on one event loop."""

    def __init__(self) -> None:
        self._pending = Batch()
        self._writing = Batch()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = DatabaseThreads("recorder")
        self._dropped = 0
        self._publisher = live.Publisher()
        self._interim = InterimTurns()
        self._release: asyncio.TimerHandle | None = None

    def start(self, start: CallStart) -> None:
        """A call began."""
        self._put(lambda batch: batch.starts.__setitem__(start.id, start))

    def describe(self, id: UUID, description: Description) -> None:
        """The client told of a call that had begun."""
        self._put(lambda batch: batch.descriptions.__setitem__(id, description))

    def answered_by(self, id: UUID, in_force: Mapping[str, Any]) -> None:
        """A call's services were built: providers, settings, stand-ins."""
        self._put(lambda batch: batch.answers.__setitem__(id, in_force))

    def turn(self, row: TurnRow) -> None:
        """A turn began, went on or ended. While it goes on, it is written at most once a second."""
        now = asyncio.get_running_loop().time()
        if self._interim.take(row, now):
            self._put_turn(row)
        elif self._release is None:
            self._plan_release(now)

    def event(self, row: EventRow) -> None:
        """Something happened in a call."""
        self._put(lambda batch: batch.events.append(row))

    def finish(self, end: CallEnd) -> None:
        """A call ended."""
        for row in self._interim.forget(end.id):
            self._put_turn(row)
        self._put(lambda batch: batch.finishes.__setitem__(end.id, end))

    async def flush(self, timeout: float) -> bool:
        """Wait until everything handed over is written, at most `timeout` seconds. Whether it is."""
        self._write_interim(everything=True)
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._hurry.clear()
        return True

    async def close(self, timeout: float = 2.0) -> None:
        """Write what is left, at most for `timeout` seconds, and stop."""
        if not await self.flush(timeout):
            logger.error("%d rows could not be stored before the end", self._waiting)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await self._publisher.close()
        self._thread.close()

    @property
    def _waiting(self) -> int:
        return len(self._pending) + len(self._writing)

    def _put_turn(self, row: TurnRow) -> None:
        self._put(lambda batch: batch.turns.__setitem__((row.session_id, row.index), row))

    def _plan_release(self, now: float) -> None:
        """Have the turns that wait written once their second is over."""
        due = self._interim.next_due
        if due is not None:
            delay = max(0.0, due - now)
            self._release = asyncio.get_running_loop().call_later(delay, self._write_interim)

    def _write_interim(self, *, everything: bool = False) -> None:
        if self._release is not None:
            self._release.cancel()
            self._release = None
        now = asyncio.get_running_loop().time()
        for row in self._interim.due(math.inf if everything else now):
            self._put_turn(row)
        self._plan_release(now)

    def _put(self, add: Callable[[Batch], None]) -> None:
        if self._waiting >= MOST_ROWS:
            self._dropped += 1
            if self._dropped % 1000 == 1:
                logger.error("the database is behind: %d rows were not stored", self._dropped)
            return
        add(self._pending)
        self._idle.clear()
        self._wake.set()
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="recorder")

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), GATHER_S)
            self._wake.clear()
            self._writing.add(self._pending)
            self._pending = Batch()
            self._writing = await self._write(self._writing)
            if len(self._writing):
                self._wake.set()
                await asyncio.sleep(RETRY_S)
            elif not len(self._pending):
                self._idle.set()

    async def _write(self, batch: Batch) -> Batch:
        """Write a batch. What is left as the database is away; rows it refuses are dropped and named."""
        try:
            await self._thread.run(batch.write)
        except (OperationalError, InterfaceError) as e:
            logger.error("the database is away, %d rows wait: %s", len(batch), e)
            return batch
        except Exception:
            if len(calls := batch.by_call()) > 1:
                return await self._write_each(calls)
            logger.exception("%d rows of a call were refused by the database and are lost", len(batch))
            return Batch()
        self._publisher.put(batch.changes())
        return Batch()

    async def _write_each(self, calls: list[Batch]) -> Batch:
        """Write each call's batch until the database is away; what is left then."""
        left = Batch()
        for call in calls:
            left.add(call if len(left) else await self._write(call))
        return left


_recorder: Recorder | None = None


def recorder() -> Recorder:
    """This process's recorder, made at first use on the running loop."""
    global _recorder  # noqa: PLW0603  one recorder per process is the point
    if _recorder is None:
        _recorder = Recorder()
    return _recorder


async def close() -> None:
    """Write what is left and stop this process's recorder."""
    global _recorder  # noqa: PLW0603  see recorder()
    if _recorder is not None:
        await _recorder.close()
        _recorder = None
