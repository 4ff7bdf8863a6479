"""What calls share of the network: the authorities that TLS trusts, and HTTP clients with their connections.

Reading the authorities takes 20 to 60 ms of the processor, which a client of each call's own would take from
the voice of all others. An account's key goes with each request and not with the client: a changed key is in
force from the next call on, and a running call keeps the one it began with.
"""

import asyncio
import ssl
from collections.abc import Callable
from functools import cache

import certifi
from openai import DefaultAsyncHttpxClient
from pipecat.utils.http import AsyncHTTPClient, connection_limits

MOST_CONNECTIONS = 1000
# Longer than callers usually speak; a connection that the server has closed meanwhile costs one retry.
KEPT_S = 120.0


class SharedClient:
    """One HTTP client for all calls on the running event loop, made when it is first asked for."""

    def __init__(self, make: Callable[[], AsyncHTTPClient]) -> None:
        self._make = make
        self._client: AsyncHTTPClient = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def get(self) -> AsyncHTTPClient:
        """The client. Whoever asks does not close it."""
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
    """What a server's certificate is judged by: Mozilla's authorities, and the system's.

    OpenSSL takes those of SSL_CERT_FILE and SSL_CERT_DIR, if they are set, for the system's. The first time
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
