"""The WebSocket routes."""

from http import HTTPStatus
from typing import Any

from django.urls import path, re_path

from calls.consumers import BrowserConsumer, CommandConsumer, RustPBXConsumer
from calls.gateway.refusing import Refusal, refuse


async def refuse_path(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Refuse a WebSocket of a path that is not served, before the upgrade. Its query may hold a token."""
    await receive()  # websocket.connect
    reason = f"expected the path /ws/rustpbx, got {scope['path'][:100]!r}"
    await refuse(scope, send, Refusal(HTTPStatus.FORBIDDEN, reason))


_rustpbx = RustPBXConsumer.as_asgi()
websocket_urlpatterns = [
    path("ws/rustpbx", _rustpbx, name="rustpbx"),
    path("", _rustpbx),  # RustPBX's own defaults have no path
    path("ws/rustpbx/", _rustpbx),  # written so by mistake in many a server_url
    path("ws/commands", CommandConsumer.as_asgi(), name="commands"),
    path("ws/try/", BrowserConsumer.as_asgi(), name="try-socket"),
    re_path("", refuse_path),  # type: ignore[arg-type]  # the stub knows views only
]
