"""ASGI's lifespan protocol: how uvicorn and granian have the application start and stop."""

import threading
from typing import Any

from calls.gateway.server import lifespan
from calls.gateway.server.signals import Ending


async def serve_lifespan(_scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Start when the server says so, take its signals over, and stop when it says so."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                await lifespan.startup()
            except lifespan.CannotStart as e:
                await send({"type": "lifespan.startup.failed", "message": str(e)})
                return
            if threading.current_thread() is threading.main_thread():  # elsewhere nobody gets signals
                Ending().watch()
            await send({"type": "lifespan.startup.complete"})
        else:
            await lifespan.shutdown()
            await send({"type": "lifespan.shutdown.complete"})
            return
