"""Which paths WebSockets are served on."""

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator

from calls.routing import websocket_urlpatterns


def ask_for(url):
    client = WebsocketCommunicator(URLRouter(websocket_urlpatterns), url)
    client.scope["client"] = ["127.0.0.1", 4711]
    return client


@pytest.mark.parametrize("path", ["/ws/rustpbx", "/ws/rustpbx/", "/"])
async def test_calls_are_taken_with_and_without_a_slash_at_the_end_and_without_a_path(path):
    client = ask_for(f"{path}?profile=sales")
    accepted, _ = await client.connect()
    assert accepted
    await client.disconnect()


@pytest.mark.parametrize("path", ["/ws", "/ws/rustpbx/x", "/ws/rustpbx2", "/calls/"])
async def test_another_path_is_refused_before_the_upgrade(path, caplog):
    client = ask_for(f"{path}?token=secret")
    accepted, _ = await client.connect()
    assert not accepted
    await client.wait()
    refused = f"refused a stream from 127.0.0.1: expected the path /ws/rustpbx, got {path!r}"
    assert caplog.messages.count(refused) == 1
