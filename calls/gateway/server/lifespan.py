"""Startup before the first call, and shutdown after the last."""

import asyncio
import gc
import logging
from typing import Any

from channels.db import database_sync_to_async

from calls.gateway import registry
from calls.pipeline import build
from calls.process import State, this_process
from calls.profiles import choosing
from calls.providers import accounts, catalogue
from calls.recorder import ownership, writer

logger = logging.getLogger(__name__)

SHUTDOWN_S = 8.0


async def startup() -> None:
    """Register this process, close the calls that dead processes left open, and load every model."""
    this_process.move(State.STARTING)
    await ownership.start(lambda: len(registry.live))
    await database_sync_to_async(accounts.refresh)()
    await build.warm()
    this_process.move(State.ACCEPTING)
    # Everything loaded by now stays: spare the garbage collector half a million objects.
    gc.collect()
    gc.freeze()


async def shutdown() -> None:
    """End the calls, store them, stop the models, within SHUTDOWN_S. May be called again."""
    if this_process.state is State.ACCEPTING:
        this_process.move(State.DRAINING)
    try:
        async with asyncio.timeout(SHUTDOWN_S):
            await registry.shutdown()
            await writer.close()
            await ownership.close()  # after the ends of the calls are stored
            choosing.close()
            await catalogue.close()
    except TimeoutError:
        logger.error("shutdown took more than %s s and was cut short", SHUTDOWN_S)
    this_process.move(State.STOPPED)


async def lifespan(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """ASGI's lifespan protocol."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await startup()
            except Exception as e:
                logger.exception("start-up failed")
                await send({"type": "lifespan.startup.failed", "message": str(e)})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            await shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
