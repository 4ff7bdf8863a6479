"""Pages beside calls: made one at a time, in a thread that lets the event loop in at once."""

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext
from django.core.handlers.asgi import ASGIHandler

# How long a thread may keep Python from the event loop, which wants it for every 20 ms of voice. Python's
# default of 5 ms is as long for each time that the loop waits for the network or for a model in between.
SWITCH_S = 0.0005
PROBES = ("/healthz", "/readyz")


class Pages(ASGIHandler):
    """Django's own application, which would take a new thread, with a database connection, for each request.

    docs/development.md says what pages did to the voice of calls then, and do now.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pages")
        sys.setswitchinterval(SWITCH_S)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request. A probe of the server's health waits for no page."""
        if scope["path"] in PROBES:
            await super().__call__(scope, receive, send)
            return
        async with ThreadSensitiveContext(executor=self._thread):
            await self.handle(scope, receive, send)
