"""The door: refuse a WebSocket before its upgrade, or accept it and run its connection."""

from http import HTTPStatus
from typing import Any

from channels.consumer import AsyncConsumer
from channels.generic.websocket import AsyncJsonWebsocketConsumer

from calls.gateway import admission, commands, proxies, trying
from calls.gateway.codes import ABUSE, NORMAL
from calls.gateway.connection import Connection, Receive
from calls.gateway.outbox import Send
from calls.gateway.pbx.arriving import arrive
from calls.gateway.refusing import Refusal, log_refusal, refuse
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
        query = admission.query_of(scope)
        if is_announced := admission.TICKET in query:
            await send({"type": "websocket.accept"})  # whatever comes of it: see admission.refusal
        arrival = await arrive(query)
        if arrival is None:
            log_refusal("expected a ticket that is valid, once, got another", proxies.client_address(scope))
            await send({"type": "websocket.close", "code": ABUSE})
            return
        connection = Connection(scope, send, arrival)
        with registered(connection):  # from now on it counts: others must not take its place meanwhile
            if not is_announced:
                await send({"type": "websocket.accept"})
            await connection.run(receive)


class BrowserConsumer(AsyncConsumer):
    """One WebSocket of a browser in which somebody who is logged in tries the agent out."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Refuse before the upgrade who may not; who may is told why there is no call, if there is none."""
        await receive()  # websocket.connect
        user = await trying.user_of(scope)
        if isinstance(user, Refusal):
            await refuse(scope, send, user)
            return
        await send({"type": "websocket.accept"})
        try:
            arrival = await trying.arrive(scope, user)
        except trying.Unusable as e:
            await send({"type": "websocket.send", "text": trying.failure(str(e))})
            await send({"type": "websocket.close", "code": NORMAL})
            return
        connection = Connection(scope, send, arrival)
        with registered(connection):  # see RustPBXConsumer
            await connection.run(receive)


class CommandConsumer(AsyncJsonWebsocketConsumer):
    """Commands to calls, for askers on this machine when there is no Redis; they sign with SECRET_KEY."""

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Refuse before the upgrade who cannot sign, or take commands."""
        if not commands.is_signed(admission.offered_token(scope)):
            await receive()  # websocket.connect
            await refuse(scope, send, Refusal(HTTPStatus.FORBIDDEN, "expected a signature of SECRET_KEY"))
            return
        await super().__call__(scope, receive, send)

    async def receive_json(self, content: Any, **_: Any) -> None:
        """Carry out a command and answer."""
        await self.send_json(await commands.obey(content))
