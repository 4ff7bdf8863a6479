"""The connections of this process, and their end."""

import asyncio
from typing import Protocol

from calls.gateway.codes import GOING_AWAY
from calls.gateway.phase import Life
from calls.models import EndReason


class Registered(Protocol):
    """What a connection is to the registry."""

    life: Life

    def stop(self, reason: EndReason, code: int) -> None:
        """End it from our side."""


live: set[Registered] = set()
"""The connections of this process."""


async def shutdown(timeout: float = 2.5) -> None:
    """End every call of this process and wait until they are gone, at most `timeout` seconds."""
    connections = list(live)
    for connection in connections:
        connection.stop(EndReason.SHUTDOWN, GOING_AWAY)
    if connections:
        waiting = [asyncio.create_task(connection.life.closed.wait()) for connection in connections]
        await asyncio.wait(waiting, timeout=timeout)
        for task in waiting:
            task.cancel()
