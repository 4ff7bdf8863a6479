"""Refusing a WebSocket before its upgrade: the answer, the count of them, and a bounded number of log lines.

Callers that find no room get HTTP 503, not a socket that is closed at once: RustPBX of October 2025 tries
again, another node may answer, and with `fallback_to_internal` RustPBX takes the call itself. Nobody does so
once a socket was accepted.
"""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from django.utils import timezone

from calls.gateway import proxies
from calls.gateway.codes import ABUSE
from calls.gateway.limits import Bucket
from calls.gateway.outbox import Send
from calls.process import this_process

logger = logging.getLogger(__name__)

LINES_AT_ONCE, LINES_PER_S = 20, 1.0
ANSWER = "websocket.http.response"
"""The ASGI extension of a server that can answer a WebSocket request with a status of our choice."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused; `reason` names no secret."""

    status: HTTPStatus
    reason: str


class Log:
    """A line for each refusal, unless there are many: then one a second, with their number."""

    def __init__(self) -> None:
        self._lines = Bucket.full(LINES_PER_S, LINES_AT_ONCE, time.monotonic())
        self._untold = 0

    def add(self, reason: str, address: str) -> None:
        """Tell of a refusal."""
        if not self._lines.take(1.0, time.monotonic()):
            self._untold += 1
            return
        more = f" (and {self._untold} others before)" if self._untold else ""
        self._untold = 0
        logger.warning("refused a stream from %s: %s%s", address or "?", reason, more)


_log = Log()
log_refusal = _log.add


def count_refusal() -> None:
    """Count a call that found no room."""
    this_process.load.refused += 1
    this_process.load.refused_at = timezone.now()


async def refuse(scope: Mapping[str, Any], send: Send, refusal: Refusal) -> None:
    """Answer the request with the refusal's status; with 403 if the server knows no other."""
    if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        count_refusal()
    _log.add(refusal.reason, proxies.client_address(scope))
    if ANSWER not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": ABUSE})
        return
    body = f"{refusal.reason}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": f"{ANSWER}.start", "status": int(refusal.status), "headers": headers})
    await send({"type": f"{ANSWER}.body", "body": body})
