"""Pages beside calls: made one at a time, in a thread that lets the event loop in at once."""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.asgi import ASGIHandler

from calls.process import State, this_process

# How long a thread may keep Python from the event loop, which wants it for every 20 ms of voice. Python's
# default of 5 ms is as long for each time that the loop waits for the network or for a model in between.
SWITCH_S = 0.0005
PROBES = ("/healthz", "/readyz")


_being_made: set[asyncio.Task[Any]] = set()
abandoned = False
"""Whether a page was still being made when the process stopped."""


async def finish(timeout: float) -> bool:
    """Wait until no page is being made, at most `timeout` seconds. Whether none is.

    The threads that make pages go back to the event loop and would wait for ever for one that has stopped.
    """
    global abandoned  # noqa: PLW0603  of the process
    if _being_made:
        await asyncio.wait(set(_being_made), timeout=timeout)
    abandoned = bool(_being_made)
    return not abandoned


class Pages(ASGIHandler):
    """Django's own application, which would take a new thread, with a database connection, for each request.

    docs/development.md says what pages did to the voice of calls then, and do now.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pages")
        sys.setswitchinterval(SWITCH_S)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, with 503 once the process has stopped. A probe of health waits for no page."""
        if this_process.state is State.STOPPED:
            await refuse(send)
            return
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  narrows the type: an application runs in a task
        _being_made.add(task)
        try:
            await self._make(scope, receive, send)
        finally:
            _being_made.discard(task)

    async def _make(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] in PROBES:
            await super().__call__(scope, receive, send)
            return
        async with ThreadSensitiveContext(executor=self._thread):
            await self.handle(scope, receive, send)


async def refuse(send: Any) -> None:
    """Answer that the server has stopped."""
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"This server has stopped."})
