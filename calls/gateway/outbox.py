"""Sends to one client: messages in order, the agent's voice at once, and at last the close frame."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger(__name__)

MOST_MESSAGES = 2048  # unsent; with more, the client does not read. Covers the answers to a burst
DRAIN_S = 0.2
CLOSE_S = 0.5

Send = Callable[[dict[str, Any]], Awaitable[None]]


class Outbox:
    """Sends to one client, in a task of its own.

    Args:
        send: of the ASGI application.
        sent: is called before each message.
        full: is called when the queue is full: the client does not read.
    """

    def __init__(self, send: Send, *, sent: Callable[[], None], full: Callable[[], None]) -> None:
        self._send = send
        self._sent = sent
        self._full = full
        self._texts: asyncio.Queue[str] = asyncio.Queue(MOST_MESSAGES)
        self._task: asyncio.Task[None] | None = None
        self._gone = False  # the socket is closed

    def start(self) -> None:
        """Start the sending task."""
        self._task = asyncio.create_task(self._run(), name="outbox")

    def put(self, text: str) -> None:
        """Queue a text message; never waits."""
        try:
            self._texts.put_nowait(text)
        except asyncio.QueueFull:
            self._full()

    async def send(self, content: str | bytes) -> None:
        """Send a text or a binary message at once, before what is queued."""
        kind = "text" if isinstance(content, str) else "bytes"
        await self._send_now({"type": "websocket.send", kind: content})

    def lost(self) -> None:
        """The client has closed the socket: nothing can be sent any more."""
        self._gone = True

    async def close(self, code: int) -> None:
        """Send the queued messages, which may include an error, and close the socket; takes 0.7 s at most."""
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._texts.join(), DRAIN_S)
            self._task.cancel()
            await asyncio.wait({self._task})
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._send_now({"type": "websocket.close", "code": code})
        self._gone = True

    async def _run(self) -> None:
        while True:
            text = await self._texts.get()
            await self._send_now({"type": "websocket.send", "text": text})
            self._texts.task_done()

    async def _send_now(self, event: dict[str, Any]) -> None:
        if self._gone:
            return
        self._sent()
        try:
            await self._send(event)
        except Exception as e:  # each server has its own error for a socket that is gone
            logger.debug("a message could not be sent: %s: %s", type(e).__name__, e)
