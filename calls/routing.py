"""The WebSocket routes."""

import logging
from typing import Any

from django.urls import path, re_path

from calls.consumers import RustPBXConsumer
from calls.gateway import proxies

logger = logging.getLogger(__name__)


async def refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Refuse a WebSocket of a path that is not served, before the upgrade. Its query may hold a token."""
    await receive()  # websocket.connect
    address, asked = proxies.client_address(scope) or "?", scope["path"][:100]
    logger.warning("refused a stream from %s: expected the path /ws/rustpbx, got %r", address, asked)
    await send({"type": "websocket.close"})


_rustpbx = RustPBXConsumer.as_asgi()
websocket_urlpatterns = [
    path("ws/rustpbx", _rustpbx, name="rustpbx"),
    path("", _rustpbx),  # RustPBX's own defaults have no path
    path("ws/rustpbx/", _rustpbx),  # written so by mistake in many a server_url
    re_path("", refuse),  # type: ignore[arg-type]  # the stub knows views only
]
