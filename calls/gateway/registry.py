"""The open connections of this process, and how shutdown ends them."""

import asyncio
from typing import Protocol

from calls.gateway.codes import GOING_AWAY
from calls.gateway.phase import Life
from calls.models import EndReason


class Registered(Protocol):
    """The parts of a connection that the registry uses."""

    life: Life

    def stop(self, reason: EndReason, code: int) -> None:
        """End the connection from our side."""


live: set[Registered] = set()
"""The open connections of this process."""


async def shutdown(timeout: float = 2.5) -> None:
    """End every connection of this process and wait until they are closed, at most `timeout` seconds."""
    connections = list(live)
    for connection in connections:
        connection.stop(EndReason.SHUTDOWN, GOING_AWAY)
    if connections:
        waiting = [asyncio.create_task(connection.life.closed.wait()) for connection in connections]
        await asyncio.wait(waiting, timeout=timeout)
        for task in waiting:
            task.cancel()
