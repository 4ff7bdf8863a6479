"""What RustPBX asks over HTTP goes past the pages: they are made one at a time, and it waits in silence.

The same views serve it through Django's own application, with its middleware, in another server or a test.
"""

import io
import logging
from http import HTTPStatus
from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase
from django.urls import Resolver404, resolve

logger = logging.getLogger(__name__)

PREFIX = "/rustpbx/"
MOST_BYTES = 1024 * 1024  # an INVITE's headers come twice


class QuestionsFirst:
    """An ASGI application for HTTP.

    Args:
        others: serves everything that is not RustPBX's.
    """

    def __init__(self, others: Any) -> None:
        self._others = others

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer one request."""
        if not scope["path"].startswith(PREFIX):
            await self._others(scope, receive, send)
            return
        body = await _body(receive)
        if body is not None:  # else the client has gone
            await _send(await _response(scope, body), send)


async def _body(receive: Any) -> bytes | None:
    """The request's body; of one that is too long what was read of it, None if the client went away."""
    body = bytearray()
    while len(body) <= MOST_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return bytes(body)


async def _response(scope: dict[str, Any], body: bytes) -> HttpResponseBase:
    if len(body) > MOST_BYTES:
        return HttpResponse(status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    try:
        view = resolve(scope["path"])
        response: HttpResponseBase = await view.func(
            ASGIRequest(scope, io.BytesIO(body)), *view.args, **view.kwargs
        )
    except Resolver404:
        return HttpResponse(status=HTTPStatus.NOT_FOUND)
    except Exception:
        logger.exception("a question of a PBX could not be answered")
        return HttpResponse(status=HTTPStatus.INTERNAL_SERVER_ERROR)
    return response


async def _send(response: HttpResponseBase, send: Any) -> None:
    content = getattr(response, "content", b"")
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in response.items()]
    length = (b"content-length", b"%d" % len(content))
    await send({"type": "http.response.start", "status": response.status_code, "headers": [*headers, length]})
    await send({"type": "http.response.body", "body": content})
