"""The ASGI application: pages over HTTP, calls over WebSockets, start-up and shutdown for servers that tell.

Daphne knows no lifespan protocol; `manage.py serve` starts and ends the process itself. Under uvicorn or
granian the lifespan does.
"""

import os
from typing import Any

import django
from channels.routing import ProtocolTypeRouter, URLRouter

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voiceagent.settings")
django.setup(set_prefix=False)

from calls.gateway.pbx.door import QuestionsFirst  # noqa: E402  see below
from calls.gateway.server.asgi import serve_lifespan  # noqa: E402  Django's applications have to be loaded first
from calls.pages.serving import Pages  # noqa: E402  see above
from calls.routing import websocket_urlpatterns  # noqa: E402  see above

_router = ProtocolTypeRouter(
    {
        "http": QuestionsFirst(Pages()),
        "websocket": URLRouter(websocket_urlpatterns),
        "lifespan": serve_lifespan,
    }
)


async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Serve one connection."""
    await _router(scope, receive, send)
