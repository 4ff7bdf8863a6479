"""OpenAI's streamed chat completions."""

import asyncio
import json
import re
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.cloud.faults import Dropped, Faults
from tests.cloud.journal import Journal

KEY = "sk-made-up"
_ERROR_TYPES = {401: "invalid_request_error", 429: "rate_limit_exceeded"}


@dataclass(frozen=True)
class Completion:
    """One request: its headers, and its body as it was sent."""

    headers: dict[str, str]
    body: dict[str, Any]


class ChatCompletions:
    """`POST /v1/chat/completions`: streams the next of `replies` word by word; the last one repeats.

    A reply that is a list is streamed in its pieces, a text or a delta each; the last is the finish_reason.
    """

    def __init__(self, *replies: str | list[Any], tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.faults = Faults()
        self.key: str | None = KEY  # None: whoever asks is answered
        self.replies = deque(replies)
        self.requests: Journal[Completion] = Journal()
        self.hang_ups: Journal[Completion] = Journal()
        self._port = 0

    @asynccontextmanager
    async def running(self, listening: socket.socket | None = None) -> AsyncIterator[str]:
        """Serve on a free port of the loopback address, the next time on the same, or on a socket.

        Gives the base URL, with its /v1.
        """
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._complete)
        # The handler ends when its client hangs up, and none outlives the test.
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        try:
            address = (
                web.SockSite(runner, listening.dup())
                if listening
                else web.TCPSite(runner, "127.0.0.1", self._port, ssl_context=self.tls)
            )
            await address.start()
            self._port = runner.addresses[0][1]
            yield f"{'https' if self.tls else 'http'}://127.0.0.1:{self._port}/v1"
        finally:
            await runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        completion = Completion(dict(request.headers), await request.json())
        self.requests.append(completion)
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _error(401, None)
        if self.faults.refusal:
            return _error(self.faults.refusal, self.faults.retry_after)
        if not completion.body.get("stream"):
            return _error(400, None)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        try:
            await self.faults.before_answer()
            await response.prepare(request)
            await self._stream(response, completion.body)
        except Dropped:
            assert request.transport is not None  # an answer was being sent
            request.transport.abort()
        except asyncio.CancelledError:  # how aiohttp says that the client hung up
            self.hang_ups.append(completion)
            raise
        return response

    async def _stream(self, response: web.StreamResponse, body: dict[str, Any]) -> None:
        """Send the next reply as server-sent events."""
        reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        *words, finish = reply if isinstance(reply, list) else [*re.findall(r"\s*\S+", reply), "stop"]
        await _event(response, body, choice={"role": "assistant", "content": ""})
        for sent, word in enumerate(words):
            self.faults.before_chunk(sent)
            await _event(response, body, choice={"content": word} if isinstance(word, str) else word)
        self.faults.before_chunk(len(words))
        await _event(response, body, choice={}, finish_reason=finish)
        if (body.get("stream_options") or {}).get("include_usage"):
            prompt = sum(len(str(message["content"]).split()) for message in body["messages"])
            tokens = {"prompt_tokens": prompt, "completion_tokens": len(words)}
            await _event(response, body, usage={**tokens, "total_tokens": prompt + len(words)})
        await response.write(b"data: [DONE]\n\n")


async def _event(
    response: web.StreamResponse,
    body: dict[str, Any],
    *,
    choice: dict[str, Any] | None = None,
    finish_reason: str | None = None,
    usage: dict[str, int] | None = None,
) -> None:
    """Send one chunk: a change of the reply, or the usage, which has no choices."""
    choices = [] if choice is None else [{"index": 0, "delta": choice, "finish_reason": finish_reason}]
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1700000000,
        "model": body["model"],
        "choices": choices,
        "usage": usage,
    }
    await response.write(f"data: {json.dumps(chunk)}\n\n".encode())


def _error(status: int, retry_after: float | None) -> web.Response:
    """OpenAI's form of an error."""
    error = {"message": f"made-up error {status}", "type": _ERROR_TYPES.get(status, "server_error")}
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return web.json_response(
        {"error": {**error, "param": None, "code": None}}, status=status, headers=headers
    )
