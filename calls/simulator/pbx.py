"""RustPBX 0.5 from outside: its REST API and its RWI, and the telephone calls that it has."""

import asyncio
import itertools
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any

import aiohttp
from aiohttp import web

from calls.simulator.script import Step
from calls.simulator.telephone import Ivr, Telephone

API_TOKEN, RWI_TOKEN = "api-token", "rwi-token"


class Pbx:
    """A RustPBX on a free port of this machine; use it as a context manager."""

    def __init__(self) -> None:
        self.calls: dict[str, Telephone] = {}
        self.commands: list[tuple[str, str]] = []  # what was ordered from outside, and of which call
        self._numbers = itertools.count(1)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Pbx":
        """Serve, and be ready to call."""
        app = web.Application()
        app.router.add_get("/api/calls/active", self._active)
        app.router.add_post("/api/calls/active/{id}/commands", self._command)
        app.router.add_get("/rwi/v1", self._rwi)
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._http = await self._stack.enter_async_context(aiohttp.ClientSession())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop serving."""
        await self._stack.aclose()

    def call(self, ivr: Ivr, *scripts: Sequence[Step], **options: Any) -> Telephone:
        """A call that comes in and is routed to the IVR; its `run` is to be awaited."""
        session_id = f"call/{next(self._numbers)}@127.0.0.1"  # what has to be quoted in a path
        telephone = self.calls[session_id] = Telephone(self._http, ivr, session_id, scripts, **options)
        return telephone

    async def _active(self, request: web.Request) -> web.Response:
        if not self._is_allowed(request):
            return web.json_response({"error": "unauthorized"}, status=401)
        return web.json_response({"data": [{"session_id": each} for each in self.calls]})

    async def _command(self, request: web.Request) -> web.Response:
        if not self._is_allowed(request):
            return web.json_response({"error": "unauthorized"}, status=401)
        telephone = self.calls.get(request.match_info["id"])
        if telephone is None:
            return web.json_response({"error": "not found"}, status=404)
        action = (await request.json())["action"]
        self.commands.append((f"rest {action}", telephone.session_id))
        if action == "hangup":  # "transfer" does nothing
            telephone.order({"type": "hangup"})
        return web.json_response({"message": "queued"})

    async def _rwi(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("token") != RWI_TOKEN:
            return web.Response(status=401)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for received in socket:
            command = received.json()
            params = command.get("params", {})
            telephone = self.calls.get(params.get("call_id", ""))
            answer: dict[str, Any] = {"action_id": command["action_id"], "response": "success"}
            if command["action"] == "call.transfer":
                self.commands.append(("rwi transfer", params["call_id"]))
                if telephone is None:
                    answer |= {"response": "error", "error": {"code": "not_found", "message": "no such call"}}
                else:
                    _, _, query = params["target"].partition("?")
                    variables = dict(pair.split("=", 1) for pair in query.split("&") if pair)
                    telephone.order({"type": "ask", "variables": variables})
            await socket.send_json({"event": "call.something", "data": {}})
            await socket.send_json(answer)
        return socket

    @staticmethod
    def _is_allowed(request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {API_TOKEN}"


async def ended(telephone: Telephone, within_s: float = 60.0) -> None:
    """Run the call to its end. Raises TimeoutError, as for one that stays in silence."""
    async with asyncio.timeout(within_s):
        await telephone.run()
