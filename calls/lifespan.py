"""What a serving process does before its first call and after its last."""

import asyncio
import logging
from typing import Any

from channels.db import database_sync_to_async
from django.conf import settings
from loguru import logger as pipecat_logger

from calls import consumers, recorder
from calls.models import CallSession
from calls.pipeline import vad
from calls.providers import catalogue

logger = logging.getLogger(__name__)

SHUTDOWN_S = 8.0


async def startup() -> None:
    """Close the calls a dead server left open, and load every model: no call waits for one."""
    quiet_pipecat()
    closed = await database_sync_to_async(CallSession.objects.close_orphans)(settings.NODE_NAME)
    if closed:
        logger.warning("%d calls of this node were left open by a server that died", closed)
    await asyncio.gather(catalogue.warm(), asyncio.to_thread(vad.warm))


async def shutdown() -> None:
    """End the calls, store what they said, stop the models; bounded."""
    try:
        async with asyncio.timeout(SHUTDOWN_S):
            await consumers.shutdown()
            await recorder.close()
            await catalogue.close()
    except TimeoutError:
        logger.error("shutdown took more than %s s and was cut short", SHUTDOWN_S)


def quiet_pipecat() -> None:
    """Send Pipecat's log to ours from warnings on: its debug log costs more than the audio."""
    pipecat_logger.remove()
    pipecat_logger.add(_to_logging, level="WARNING", format="{message}")


def _to_logging(message: Any) -> None:
    record = message.record
    logging.getLogger(record["name"]).log(record["level"].no, record["message"])


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
