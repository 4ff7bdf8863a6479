"""Stores calls while they go on: the only writer of the database during a call.

Calls hand over rows and never wait. One task takes what has gathered, at least every quarter of a second, and
writes it in one transaction on a thread of its own. A database that is away is tried again; what gathers
meanwhile is bounded.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from channels.db import database_sync_to_async
from django.db import InterfaceError, OperationalError, transaction

from calls.models import CallEvent, CallSession, EventRow, Turn, TurnRow
from calls.recorder import notify as live

logger = logging.getLogger(__name__)

GATHER_S = 0.1  # a batch waits this long for more; with the write itself it stays under 250 ms
RETRY_S = 1.0
MOST_ROWS = 20_000


class DescriptionRow(TypedDict):
    """What the client told of its call, as CallSession.objects.describe() takes it."""

    id: UUID
    room_id: str
    caller: str
    callee: str
    metadata: dict[str, Any]
    client_configs: dict[str, Any]


class StartRow(DescriptionRow):
    """A call that began, as CallSession.objects.start() takes it."""

    profile_id: int | None
    config: dict[str, Any]
    started_at: datetime
    remote_address: str
    node: str


class FinishRow(TypedDict):
    """A call that ended, as CallSession.objects.finish() takes it."""

    id: UUID
    status: str
    end_reason: str
    ended_at: datetime
    audio_in_s: float
    audio_out_s: float
    client_generation: str
    error: str


@dataclass(slots=True)
class Batch:
    """Rows that wait to be written. A turn replaces the same turn that has not been written yet."""

    starts: dict[UUID, StartRow] = field(default_factory=dict)
    descriptions: dict[UUID, DescriptionRow] = field(default_factory=dict)
    turns: dict[tuple[UUID, int], TurnRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    finishes: dict[UUID, FinishRow] = field(default_factory=dict)

    def __len__(self) -> int:
        calls = len(self.starts) + len(self.descriptions) + len(self.finishes)
        return calls + len(self.turns) + len(self.events)

    def write(self) -> None:
        """Write every row in one transaction. Raises what the database raises; then nothing is written."""
        with transaction.atomic():
            for start in self.starts.values():
                CallSession.objects.start(**start)
            for description in self.descriptions.values():
                CallSession.objects.describe(**description)
            if self.turns:
                Turn.objects.record(self.turns.values())
            if self.events:
                CallEvent.objects.record(self.events)
            for finish in self.finishes.values():
                CallSession.objects.finish(**finish)

    def by_call(self) -> "list[Batch]":
        """The same rows, one batch a call."""
        batches: dict[UUID, Batch] = {}

        def of(call_id: UUID) -> Batch:
            return batches.setdefault(call_id, Batch())

        for call_id, start in self.starts.items():
            of(call_id).starts[call_id] = start
        for call_id, description in self.descriptions.items():
            of(call_id).descriptions[call_id] = description
        for key, turn in self.turns.items():
            of(key[0]).turns[key] = turn
        for event in self.events:
            of(event["session_id"]).events.append(event)
        for call_id, finish in self.finishes.items():
            of(call_id).finishes[call_id] = finish
        return list(batches.values())

    def add(self, later: "Batch") -> None:
        """Take a later batch's rows, too: of two rows for the same thing the later counts."""
        self.starts |= later.starts
        self.descriptions |= later.descriptions
        self.turns |= later.turns
        self.events += later.events
        self.finishes |= later.finishes

    def changes(self) -> list[live.CallChanged]:
        """What to tell the watchers once this is written."""
        return [
            *(live.started(call_id) for call_id in self.starts),
            *(live.turn(call_id, index) for call_id, index in self.turns),
            *map(live.event, dict.fromkeys([*self.descriptions, *(e["session_id"] for e in self.events)])),
            *(live.finished(call_id) for call_id in self.finishes),
        ]


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
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="recorder")
        self._dropped = 0
        self._publisher = live.Publisher()

    def start(self, row: StartRow) -> None:
        """A call began."""
        self._put(lambda batch: batch.starts.__setitem__(row["id"], row))

    def describe(self, row: DescriptionRow) -> None:
        """The client told of a call that had begun."""
        self._put(lambda batch: batch.descriptions.__setitem__(row["id"], row))

    def turn(self, row: TurnRow) -> None:
        """A turn began, went on or ended."""
        self._put(lambda batch: batch.turns.__setitem__((row["session_id"], row["index"]), row))

    def event(self, row: EventRow) -> None:
        """Something happened in a call."""
        self._put(lambda batch: batch.events.append(row))

    def finish(self, row: FinishRow) -> None:
        """A call ended."""
        self._put(lambda batch: batch.finishes.__setitem__(row["id"], row))

    async def flush(self, timeout: float) -> bool:
        """Wait until everything handed over is written, at most `timeout` seconds. Whether it is."""
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
        self._executor.shutdown(wait=False)

    @property
    def _waiting(self) -> int:
        return len(self._pending) + len(self._writing)

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
            await self._in_thread(batch.write)
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

    async def _in_thread(self, write: Callable[[], None]) -> None:
        await database_sync_to_async(write, thread_sensitive=False, executor=self._executor)()


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
