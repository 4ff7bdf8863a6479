"""Startup before the first call, and shutdown after the last."""

import asyncio
import gc
import logging

from channels.db import database_sync_to_async
from django.db import Error
from django.urls import resolve

from calls.gateway import capacity, commands, registry
from calls.gateway.pbx import answering, database, later
from calls.gateway.pbx.first import first
from calls.gateway.pbx.watchdog import watchdog
from calls.pages import serving
from calls.pipeline import build
from calls.process import State, this_process
from calls.profiles import choosing
from calls.providers import accounts, catalogue
from calls.recorder import ownership, writer

logger = logging.getLogger(__name__)

SHUTDOWN_S = 8.0
PAGES_S = 2.0


class CannotStart(Exception):
    """Something that the server needs is not there; the message is one sentence for those who started it."""


async def startup() -> None:
    """Register this process, close the calls that dead processes left open, and load every model.

    Raises:
        CannotStart: the database or a model cannot be had.
    """
    try:
        await _start()
    except Error as e:
        said = " ".join(str(e).split())
        raise CannotStart(f"the database cannot be used ({said}); has `manage.py prepare` been run?") from e
    except OSError as e:
        raise CannotStart(f"the server cannot start: {e}") from e


async def _start() -> None:
    this_process.move(State.STARTING)
    await ownership.start(capacity.look)
    await database_sync_to_async(accounts.refresh)()
    await asyncio.gather(build.warm(), pbx_ready())
    commands.start()
    watchdog.start()
    this_process.move(State.ACCEPTING)
    # Everything loaded by now stays: spare the garbage collector half a million objects.
    gc.collect()
    gc.freeze()


async def pbx_ready() -> None:
    """Do what the first question of a PBX would have to wait for: addresses are read, its threads connect."""
    resolve("/rustpbx/ivr")
    await asyncio.gather(
        *(database.run(answering.get_ready) for _ in range(database.THREADS[database.QUESTIONS]))
    )


async def shutdown() -> None:
    """End the calls, store them, stop the models, within SHUTDOWN_S. May be called again."""
    if this_process.state is State.ACCEPTING:
        this_process.move(State.DRAINING)
    try:
        async with asyncio.timeout(SHUTDOWN_S):
            await commands.close()
            await registry.shutdown()
            await first.close()
            await watchdog.close()
            await later.close()
            await writer.close()
            await ownership.close()  # after the ends of the calls are stored
            choosing.close()
            database.close()
            await catalogue.close()
    except TimeoutError:
        logger.error("shutdown took more than %s s and was cut short", SHUTDOWN_S)
    this_process.move(State.STOPPED)
    if not await serving.finish(PAGES_S):
        logger.error("a page was still being made after %s s", PAGES_S)
