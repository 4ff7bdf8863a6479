"""How a process ends: under each server its calls end by themselves, or hear a farewell, and are stored."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager, suppress

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.e2e.conftest import PROFILES
from tests.e2e.server import AgentServer
from tests.e2e.test_lifecycle import ended
from tests.e2e.test_servers import await_listening, granian, uvicorn
from tests.e2e.test_socket import CONFIGURE, FRAME, closed, send, status_of, until
from tests.e2e.test_storage import log_in
from tests.ports import free_port

FRAME_S = 0.01
PATIENCE_S = 20
LATER_S = 1.5  # more than what counts as one signal that came twice
GREETING, FAREWELL = "Hello, how can I help you today?", "Thank you for calling, goodbye."


def daphne(port):
    return ["manage.py", "serve"]


@pytest.fixture(params=[daphne, uvicorn, granian], ids=["daphne", "uvicorn", "granian"])
def serve(request, tmp_path):
    """Start the application under one of the servers."""
    port, started = free_port(), []

    def start(**environment):
        command = request.param(port)
        server = AgentServer(tmp_path, profiles=PROFILES, port=port, command=command, **environment)
        server.__enter__()
        started.append(server)
        await_listening(port)
        return server

    yield start
    for server in started:
        if server.process.poll() is None:  # the test has failed
            tell(server, signal.SIGKILL)
        server.stop()


def tell(server, number):
    """Send a signal to the server and what it has started, as a terminal and systemd do."""
    for pid in (*server.children(), server.process.pid):
        os.kill(pid, number)


def ready(server):
    answer = httpx.get(f"{server.page}/readyz", trust_env=False)
    return answer.status_code, answer.json()["checks"]["process"], answer.json()["calls"]


@asynccontextmanager
async def greeted(server, room):
    """A call that has heard its greeting. The caller is silent, and his line is not."""

    async def stream():
        while True:
            await ws.send(FRAME)
            await asyncio.sleep(FRAME_S)

    async with connect(server.url) as ws:
        await send(ws, {**CONFIGURE, "room_id": room})
        streaming = asyncio.create_task(stream())
        await until(ws, "tts_completed", PATIENCE_S)
        yield ws
        streaming.cancel()
        await asyncio.wait({streaming})


async def draining(server):
    async with asyncio.timeout(PATIENCE_S):
        while ready(server)[1] == "ok":  # noqa: ASYNC110  another process: there is no event to wait for
            await asyncio.sleep(0.02)


async def status(server):
    return await asyncio.to_thread(server.process.wait, PATIENCE_S)


async def test_calls_end_by_themselves_and_no_others_begin(serve):
    server = serve(DRAIN_SECONDS="600", MAX_CALLS="1")
    children = server.children()
    async with greeted(server, "drained") as ws:
        assert await status_of(server.url) == 503, "the one call that it takes is there"
        assert ready(server) == (200, "ok", {"running": 1, "most": 1, "refused": 1})
        tell(server, signal.SIGTERM)
        await draining(server)
        for again in range(2, 5):
            assert await status_of(server.url) == 503
            counts = {"running": 1, "most": 1, "refused": again}
            assert ready(server) == (503, "draining, calls left: 1", counts)
        await asyncio.sleep(LATER_S)  # the call goes on: the signal that came twice was one
        await send(ws, {"command": "ping", "timestamp": 7})
        assert (await until(ws, "pong"))["timestamp"] == 7
        await send(ws, {"command": "disconnect", "reason": "done"})
        assert await closed(ws) == 1000
    assert await status(server) == 0
    assert ended(children) == {}
    session = server.session("drained")
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    assert [turn["text"] for turn in server.turns("drained")] == [GREETING]
    assert len(server.rows("SELECT id FROM calls_callsession")) == 1
    assert server.rows("SELECT state FROM calls_node") == [{"state": "stopped"}]


@pytest.mark.parametrize("serve", [daphne], ids=["daphne"], indirect=True)
async def test_readers_of_pages_keep_no_server_from_ending(serve):
    """A page that is being made goes back to the event loop: the loop has to be there for it."""
    server = serve()
    async with httpx.AsyncClient(base_url=server.page, trust_env=False, timeout=30) as browser:
        await log_in(browser)
        reading = asyncio.Event()

        async def read():
            with suppress(httpx.HTTPError):  # the server's end
                while True:
                    for page in ("/calls/", "/readyz"):
                        await browser.get(page)
                        reading.set()

        readers = [asyncio.create_task(read()) for _ in range(3)]
        await asyncio.wait_for(reading.wait(), PATIENCE_S)
        tell(server, signal.SIGTERM)
        assert await status(server) == 0
        for reader in readers:
            reader.cancel()
        await asyncio.wait(readers)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
async def test_a_call_that_does_not_end_hears_the_farewell(serve, number, request):
    """Ctrl-C waits for nothing else, though there were ten minutes."""
    if number == signal.SIGHUP and "granian" in request.node.name:
        pytest.skip("granian takes it for the wish to load the application anew")
    server = serve(DRAIN_SECONDS="600" if number == signal.SIGINT else "1")
    async with greeted(server, "long") as ws:
        tell(server, number)
        assert (await until(ws, "tts_completed", PATIENCE_S))["text"] == FAREWELL
        assert await closed(ws) == 1001
    assert await status(server) == 0
    session = server.session("long")
    assert (session["status"], session["end_reason"], session["error"]) == ("completed", "drained", "")
    assert [turn["text"] for turn in server.turns("long")] == [GREETING, FAREWELL]
    assert all(turn["final"] for turn in server.turns("long"))


async def test_a_second_signal_ends_calls_at_once_and_loses_nothing(serve):
    server = serve(DRAIN_SECONDS="600")
    async with greeted(server, "short") as ws:
        tell(server, signal.SIGTERM)
        await asyncio.sleep(LATER_S)
        tell(server, signal.SIGTERM)
        assert await closed(ws) == 1001
    assert await status(server) == 0
    session = server.session("short")
    assert (session["status"], session["end_reason"]) == ("interrupted", "shutdown")
    (greeting,) = server.turns("short")
    assert (greeting["text"], greeting["final"]) == (GREETING, 1)
    assert greeting["end_ms"]
