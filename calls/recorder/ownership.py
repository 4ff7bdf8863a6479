"""Which process runs which calls: this one's lease on its own, and closing those whose lease lapsed.

A process is a row of `Node` from its start on. Every 10 s it says that it is there, closes the calls of those
that have not said so for 30 s, and erases calls whose profile keeps them no longer. The lease belongs to the
boot: a second process of the same name has one of its own.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

from django.conf import settings

from calls.database import DatabaseThreads
from calls.models import CallSession, Node, NodeRow, NodeState
from calls.process import Load, this_process
from calls.recorder import notify as live

logger = logging.getLogger(__name__)
T = TypeVar("T")

RENEW_S = 10.0
STOP_S = 1.0
MOST_ERASED = 200  # expired calls at a time: the database has other things to do


class Ownership:
    """This process's lease. Lives on one event loop.

    Args:
        load: tells what the process carries; called in a thread that may use the database.
    """

    def __init__(self, load: Callable[[], Load]) -> None:
        self._load = load
        self._boot = this_process.boot
        self._task: asyncio.Task[None] | None = None
        self._thread = DatabaseThreads("ownership")

    async def start(self) -> None:
        """Take the lease, close what dead processes left, and go on so. Raises what the database raises."""
        await self._thread.run(Node.objects.prune)  # a row comes with each start: that is often enough
        await self._renew()
        self._task = asyncio.create_task(self._run(), name="ownership")

    async def close(self) -> None:
        """Give the lease back, once the process's calls are stored; within 1 s."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
            try:
                async with asyncio.timeout(STOP_S):
                    await self._thread.run(lambda: Node.objects.stop(self._boot))
            except Exception as e:  # it lapses by itself
                logger.error("the lease could not be given back: %s: %s", type(e).__name__, e)
        self._thread.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(RENEW_S)
            await self.tell()

    async def tell(self) -> None:
        """Renew the lease now, as what it says of the process has changed. Logs a database that is away."""
        try:
            await self._renew()
        except Exception as e:  # calls go on, and the next time may do
            logger.error("the lease on this process's calls was not renewed: %s: %s", type(e).__name__, e)

    async def _renew(self) -> None:
        closed = await self._thread.run(self._renew_and_sweep)
        if closed:
            logger.warning("%d calls were left open by a server that died", len(closed))
            await live.publish(live.finished(call_id) for call_id in closed)

    def _renew_and_sweep(self) -> list[UUID]:
        load = self._load()
        row = NodeRow(
            id=self._boot,
            name=settings.NODE_NAME,
            address=f"{settings.HOST}:{settings.PORT}",
            capacity=load.most,
            calls=load.calls,
            state=NodeState(this_process.state.value),
            refused=load.refused,
            refused_at=load.refused_at,
        )
        Node.objects.renew(row)
        expired = CallSession.objects.expired().values_list("pk", flat=True)[:MOST_ERASED]
        if erased := CallSession.objects.erase(expired):
            logger.info("%d calls were erased, as their profiles keep calls no longer", erased)
        return CallSession.objects.close_orphans()


_ownership: Ownership | None = None


async def start(load: Callable[[], Load]) -> None:
    """Register this process and keep its lease; see `Ownership`."""
    global _ownership  # noqa: PLW0603  one lease per process is the point
    _ownership = Ownership(load)
    await _ownership.start()


async def tell() -> None:
    """Store at once what has changed about this process."""
    if _ownership is not None:
        await _ownership.tell()


async def close() -> None:
    """Give this process's lease back."""
    global _ownership  # noqa: PLW0603  see start()
    if _ownership is not None:
        await _ownership.close()
        _ownership = None
