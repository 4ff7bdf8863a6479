"""The HTTP clients, with their connections, and the TLS context that all calls share.

Reading the certificate authorities takes 20 to 60 ms of CPU: with a client for each call, that would delay
the voice of all others. An account's key is not part of the client but of each request: a changed key is used
from the next call on, and a running call keeps its key.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import cache

import certifi
from openai import DefaultAsyncHttpxClient
from pipecat.utils.http import AsyncHTTPClient, connection_limits

MOST_CONNECTIONS = 1000
# How long idle connections are kept: longer than callers usually speak. If the server has closed one by then,
# that costs a retry.
KEPT_S = 120.0


class SharedClient:
    """One HTTP client for all calls on the running event loop, made when it is first asked for."""

    def __init__(self, make: Callable[[], AsyncHTTPClient]) -> None:
        self._make = make
        self._client: AsyncHTTPClient = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> AsyncHTTPClient:
        """Return the client, which must not be closed but by `close`."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client, self._loop = self._make(), loop
        return self._client

    async def close(self) -> None:
        """Close its connections; requests under way break off. Safe to call again."""
        client, loop = self._client, self._loop
        self._client = self._loop = None
        if loop is asyncio.get_running_loop():
            await client.aclose()


@cache
def tls() -> ssl.SSLContext:
    """The context for verifying servers' certificates, with Mozilla's authorities and the system's.

    If SSL_CERT_FILE or SSL_CERT_DIR is set, OpenSSL uses their authorities as the system's. The first call
    takes 40 to 100 ms.
    """
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _verifying() -> AsyncHTTPClient:
    limits = connection_limits(
        max_keepalive_connections=MOST_CONNECTIONS, max_connections=MOST_CONNECTIONS, keepalive_expiry=KEPT_S
    )
    return DefaultAsyncHttpxClient(verify=tls(), limits=limits)


cloud = SharedClient(_verifying)
