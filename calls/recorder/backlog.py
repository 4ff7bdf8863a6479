"""Rows that wait for the database, and the task that writes them, whatever happens to either."""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from uuid import UUID

from calls.database import DatabaseThreads
from calls.models import EventKind, EventRow, Severity
from calls.outage import Outage
from calls.recorder import notify as live
from calls.recorder.batch import Batch
from calls.recorder.refusal import is_refusal

logger = logging.getLogger(__name__)

GATHER_S = 0.1  # a batch waits this long for more; with the write itself it stays under 250 ms
RETRY_S = 1.0
MOST_ROWS = 20_000
BEHIND_S = 5.0  # rows that wait longer are worth a word in /readyz
# What may be left out first has the least room: what people said outlives interim text and events, and the
# beginning and the end of a call outlive both.
PASSING, FINAL, WHOLE_CALL = 1.0, 1.25, 1.5
OK = "ok"


class Backlog:
    """Writes rows behind the calls, in order and one transaction a batch. Lives on one event loop."""

    def __init__(self) -> None:
        self._pending = Batch()
        self._writing = Batch()
        self._oldest: float | None = None  # when the row came that has waited longest
        self._began: dict[UUID, float] = {}  # when the calls began that have not ended
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = DatabaseThreads("recorder")
        self._publisher = live.Publisher()
        self._outage = Outage(logger, "storing calls in the database")
        self._left_out = 0
        self._died = ""

    def put(self, add: Callable[[Batch], None], room: float) -> None:
        """Have rows written soon. They are left out if more than `room` times MOST_ROWS wait already."""
        if len(self) >= MOST_ROWS * room:
            self._left_out += 1
            if self._left_out % 1000 == 1:
                logger.error("the database is behind: %d rows were left out", self._left_out)
            return
        add(self._pending)
        if self._oldest is None:
            self._oldest = time.monotonic()
        self._idle.clear()
        self._wake.set()
        if self._task is None:
            self._run_task()

    def follow(self, call_id: UUID) -> None:
        """The call began now: its outages are timed from here on."""
        self._began[call_id] = time.monotonic()

    def __len__(self) -> int:
        return len(self._pending) + len(self._writing)

    @property
    def status(self) -> str:
        """ "ok", or what is wrong with the writing in a few words."""
        if self._died:
            return f"the writer died and was started again: {self._died}"
        waits_s = time.monotonic() - self._oldest if self._oldest is not None else 0.0
        return OK if waits_s < BEHIND_S else f"{len(self)} rows wait, the oldest for {waits_s:.0f} s"

    async def flush(self, timeout: float) -> bool:
        """Wait until everything is written, at most `timeout` seconds. Whether it is."""
        self._hurry.set()
        try:
            async with asyncio.timeout(timeout):
                await self._idle.wait()
        except TimeoutError:
            return False
        finally:
            self._hurry.clear()
        return True

    async def close(self, timeout: float) -> None:
        """Write what is left, at most for `timeout` seconds, and stop."""
        if not await self.flush(timeout):
            logger.error("%d rows could not be stored before the end", len(self))
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
        await self._publisher.close()
        self._thread.close()

    def _run_task(self, after: asyncio.Task[None] | None = None) -> None:
        if self._task is not after:  # closed meanwhile
            return
        self._task = asyncio.create_task(self._run(), name="recorder")
        self._task.add_done_callback(self._start_again)

    def _start_again(self, task: asyncio.Task[None]) -> None:
        """The task ended. Unless somebody wanted that, it goes on in a second: its rows are still there."""
        if task is not self._task or task.cancelled() or (error := task.exception()) is None:
            return
        self._died = f"{type(error).__name__}: {error}"
        logger.error("the recorder's task died and is started again, %d rows wait", len(self), exc_info=error)
        self._wake.set()
        asyncio.get_running_loop().call_later(RETRY_S, self._run_task, task)

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
                continue
            self._died = ""
            self._oldest = time.monotonic() if len(self._pending) else None
            if not len(self._pending):
                self._idle.set()

    async def _write(self, batch: Batch) -> Batch:
        """Write a batch. Returns what is left as the database is away; a row it refuses is lost alone."""
        try:
            await self._thread.run(batch.write)
        except Exception as e:
            if not is_refusal(e):
                self._outage.failed(e, f"{len(batch)} rows wait")
                return batch
            if len(batch) > 1:
                return await self._write_each(batch.parts())
            self._lose(batch, e)
            return Batch()
        self._written(batch)
        return Batch()

    async def _write_each(self, parts: list[Batch]) -> Batch:
        """Write the parts one by one until the database is away; what is left then."""
        left = Batch()
        for part in parts:
            left.add(part if len(left) else await self._write(part))
        return left

    def _written(self, batch: Batch) -> None:
        self._publisher.put(batch.changes())
        seconds = self._outage.over()
        if seconds is not None:
            message = (
                f"the database was away for {seconds:.0f} s, rows were stored late: {self._outage.cause}"
            )
            self._note(batch, Severity.WARNING, message)
        for call_id in batch.finishes:
            self._began.pop(call_id, None)

    def _lose(self, batch: Batch, error: Exception) -> None:
        """The database refused the batch's one row. That is a failure of its call, if it has one."""
        logger.error("a row was refused by the database and is lost: %s", batch, exc_info=error)
        if not batch.events:
            self._note(batch, Severity.ERROR, f"a row was refused by the database and is lost: {error}")

    def _note(self, batch: Batch, severity: Severity, message: str) -> None:
        """Store with each call of the batch what became of its rows."""
        now = time.monotonic()
        for call_id in batch.calls():
            ms = round((now - self._began.get(call_id, now)) * 1000)
            row = EventRow(call_id, ms, EventKind.ERROR, severity, message, provider="database")
            self.put(partial(Batch.add, later=Batch(events=[row])), WHOLE_CALL)
