"""The door: refuse a WebSocket before its upgrade, or accept it and run its connection."""

from typing import Any

from channels.consumer import AsyncConsumer

from calls.gateway import admission
from calls.gateway.connection import Connection, Receive
from calls.gateway.outbox import Send
from calls.gateway.refusing import refuse
from calls.gateway.registry import registered


class RustPBXConsumer(AsyncConsumer):
    """One WebSocket of RustPBX.

    Messages come straight from the server: AsyncConsumer's own loop would add 100 µs to each and wait for the
    shared database thread before it. The channel layer is not used here, so nothing is lost.
    """

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Refuse before the upgrade, or run the connection to its end."""
        await receive()  # websocket.connect
        if refusal := admission.refusal(scope):
            await refuse(scope, send, refusal)
            return
        connection = Connection(scope, send)
        with registered(connection):  # from now on it counts: others must not take its place meanwhile
            await send({"type": "websocket.accept"})
            await connection.run(receive)
