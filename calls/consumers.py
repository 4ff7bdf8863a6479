"""The door: refuse a WebSocket before its upgrade, or accept it and run its connection."""

import logging
from typing import Any

from channels.consumer import AsyncConsumer

from calls.gateway import admission, proxies
from calls.gateway.codes import ABUSE
from calls.gateway.connection import Connection, Receive
from calls.gateway.outbox import Send
from calls.gateway.registry import live

logger = logging.getLogger(__name__)


class RustPBXConsumer(AsyncConsumer):
    """One WebSocket of RustPBX.

    Messages come straight from the server: AsyncConsumer's own loop would add 100 µs to each and wait for the
    shared database thread before it. The channel layer is not used here, so nothing is lost.
    """

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Refuse before the upgrade, or run the connection to its end."""
        await receive()  # websocket.connect
        if reason := admission.refusal(scope):
            logger.warning("refused a stream from %s: %s", proxies.client_address(scope) or "?", reason)
            await send({"type": "websocket.close", "code": ABUSE})
            return
        await send({"type": "websocket.accept"})
        connection = Connection(scope, send)
        live.add(connection)
        try:
            await connection.run(receive)
        finally:
            live.discard(connection)
