"""Work with the database that may come late: it is tried again, for a minute."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from calls.tasks import Tasks

logger = logging.getLogger(__name__)

EVERY_S = 2.0
FOR_S = 60.0
CLOSE_S = 1.0

_tasks = Tasks()


def again(work: Callable[[], Awaitable[None]], what: str, begun: asyncio.Future[None] | None = None) -> None:
    """Do the work in the background until it raises nothing, for a minute.

    Args:
        work: may be done twice.
        what: it is, for the log.
        begun: a first try that is under way.
    """
    _tasks.spawn(_again(work, what, begun))


async def _again(work: Callable[[], Awaitable[None]], what: str, begun: asyncio.Future[None] | None) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + FOR_S
    while True:
        try:
            await (work() if begun is None else begun)
            return
        except Exception as e:  # whatever ails the database
            if loop.time() > until:
                logger.error("%s was not stored: %s: %s", what, type(e).__name__, e)
                return
        begun = None
        await asyncio.sleep(EVERY_S)


async def close() -> None:
    """Leave what is not done by now. For the end of the process."""
    await _tasks.wait(CLOSE_S)
    _tasks.cancel()
    await _tasks.wait(CLOSE_S)
