"""Stores calls while they go on: the only writer of the database during a call.

Calls hand over rows and never wait. One task takes what has gathered, at least every quarter of a second, and
writes it in one transaction on a thread of its own. The text of a turn that goes on is written at most once a
second. A database that is away is tried again; what gathers meanwhile is bounded.
"""

import asyncio
import math
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from calls.models import CallEnd, CallProgress, CallStart, Description, EventRow, TurnRow
from calls.recorder.backlog import FINAL, OK, PASSING, WHOLE_CALL, Backlog
from calls.recorder.interim import InterimTurns


class Recorder:
    """Takes rows at once and has them written behind the calls. Lives on one event loop."""

    def __init__(self) -> None:
        self._backlog = Backlog()
        self._interim = InterimTurns()
        self._release: asyncio.TimerHandle | None = None

    def start(self, start: CallStart) -> None:
        """A call began."""
        self._backlog.follow(start.id)
        self._backlog.put(lambda batch: batch.starts.__setitem__(start.id, start), WHOLE_CALL)

    def describe(self, id: UUID, description: Description) -> None:
        """The client told of a call that had begun."""
        self._backlog.put(lambda batch: batch.descriptions.__setitem__(id, description), WHOLE_CALL)

    def answered_by(self, id: UUID, in_force: Mapping[str, Any]) -> None:
        """A call's services were built: providers, settings, stand-ins."""
        self._backlog.put(lambda batch: batch.answers.__setitem__(id, in_force), WHOLE_CALL)

    def go_on(self, id: UUID, progress: CallProgress) -> None:
        """A call has got so far."""
        self._backlog.put(lambda batch: batch.progress.__setitem__(id, progress), PASSING)

    def turn(self, row: TurnRow) -> None:
        """A turn began, went on or ended. While it goes on, it is written at most once a second."""
        now = asyncio.get_running_loop().time()
        if self._interim.take(row, now):
            self._put_turn(row)
        elif self._release is None:
            self._plan_release(now)

    def event(self, row: EventRow) -> None:
        """Something happened in a call."""
        self._backlog.put(lambda batch: batch.events.append(row), PASSING)

    def finish(self, end: CallEnd) -> None:
        """A call ended."""
        for row in self._interim.forget(end.id):
            self._put_turn(row)
        self._backlog.put(lambda batch: batch.finishes.__setitem__(end.id, end), WHOLE_CALL)

    @property
    def status(self) -> str:
        """ "ok", or what is wrong with the writing in a few words."""
        return self._backlog.status

    async def flush(self, timeout: float) -> bool:
        """Wait until everything handed over is written, at most `timeout` seconds. Whether it is."""
        self._write_interim(everything=True)
        return await self._backlog.flush(timeout)

    async def close(self, timeout: float = 2.0) -> None:
        """Write what is left, at most for `timeout` seconds, and stop."""
        self._write_interim(everything=True)
        await self._backlog.close(timeout)

    def _put_turn(self, row: TurnRow) -> None:
        room = FINAL if row.final else PASSING
        self._backlog.put(lambda batch: batch.turns.__setitem__((row.session_id, row.index), row), room)

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


_recorder: Recorder | None = None


def recorder() -> Recorder:
    """This process's recorder, made at first use on the running loop."""
    global _recorder  # noqa: PLW0603  one recorder per process is the point
    if _recorder is None:
        _recorder = Recorder()
    return _recorder


def status() -> str:
    """ "ok", or what is wrong with this process's recorder in a few words."""
    return OK if _recorder is None else _recorder.status


async def close() -> None:
    """Write what is left and stop this process's recorder."""
    global _recorder  # noqa: PLW0603  see recorder()
    if _recorder is not None:
        await _recorder.close()
        _recorder = None
