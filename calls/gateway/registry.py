"""The open connections of this process, and how they end when the process does."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from calls.gateway.codes import GOING_AWAY
from calls.gateway.phase import Life
from calls.models import EndReason
from calls.process import this_process

CLOSING_S = 2.5  # what a connection's end takes at most


class Registered(Protocol):
    """The parts of a connection that the registry uses."""

    life: Life

    def stop(self, reason: EndReason, code: int) -> None:
        """End the connection from our side."""

    async def say_goodbye(self, reason: EndReason, code: int) -> None:
        """Have the farewell spoken, then end the connection."""


live: set[Registered] = set()
"""The open connections of this process."""


@contextmanager
def registered(connection: Registered) -> Iterator[None]:
    """The connection is one of the open ones within the block; at its end nobody waits for it any more."""
    live.add(connection)
    this_process.load.calls = len(live)
    try:
        yield
    finally:
        live.discard(connection)
        this_process.load.calls = len(live)
        connection.life.leave(EndReason.CLOSED, GOING_AWAY)  # both do nothing for one that ran to its end
        connection.life.close()


async def ended(seconds: float) -> bool:
    """Wait until the connections that are open now have ended, at most for `seconds`; whether they have."""
    waiting = {asyncio.create_task(connection.life.closed.wait()) for connection in live}
    if not waiting:
        return True
    try:
        return not (await asyncio.wait(waiting, timeout=seconds))[1]
    finally:
        for task in waiting:
            task.cancel()


async def say_goodbye() -> None:
    """End every connection with the farewell, and return when they have ended. Cancelling it breaks off."""
    async with asyncio.TaskGroup() as goodbyes:
        for connection in live:
            goodbyes.create_task(connection.say_goodbye(EndReason.DRAINED, GOING_AWAY))
    await ended(CLOSING_S)


async def shutdown() -> None:
    """End every connection of this process at once and wait until they are closed, at most 2.5 s."""
    for connection in list(live):
        connection.stop(EndReason.SHUTDOWN, GOING_AWAY)
    await ended(CLOSING_S)
