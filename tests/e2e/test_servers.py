"""The same application under the other ASGI servers: uvicorn and granian."""

import asyncio
import signal
import socket
import time

import pytest

from calls.simulator.call import run_call
from calls.simulator.script import Say, Wait, WaitForAgent
from calls.simulator.words import word_error_rate
from tests.e2e.conftest import PROFILES
from tests.e2e.server import AgentServer
from tests.e2e.speech import recognise, say
from tests.e2e.test_lifecycle import ended
from tests.e2e.test_socket import status_of
from tests.ports import free_port

QUESTION = "What is the capital of France?"
APPLICATION = "voiceagent.asgi:application"


def uvicorn(port):
    return ["-m", "uvicorn", APPLICATION, "--lifespan", "on", "--ws", "websockets", "--port", str(port)]


def granian(port):
    return ["-m", "granian", APPLICATION, "--interface", "asgi", "--ws", "--port", str(port)]


@pytest.fixture(scope="module", params=[uvicorn, granian], ids=["uvicorn", "granian"])
def server(request, tmp_path_factory):
    port = free_port()
    folder = tmp_path_factory.mktemp(request.param.__name__)
    with AgentServer(folder, profiles=PROFILES, port=port, command=request.param(port)) as server:
        await_listening(port)
        yield server


def await_listening(port, within=10):
    """uvicorn says that it has started just before it listens."""
    deadline = time.monotonic() + within
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.02)  # another process listens: there is no event to wait for
        else:
            return


async def test_a_conversation(server):
    script = [WaitForAgent(0.5), Say(say(QUESTION)), WaitForAgent(1.0)]
    report = await run_call(script, url=server.url, room_id="conversation")
    assert report.failure is None
    assert report.of("error") == report.dropped == report.in_vain == []
    assert report.frames.sent >= 0.99 * report.frames.due
    spoken = report.said_by("agent")
    assert spoken.startswith("Hello, how can I help you today?")
    assert word_error_rate(spoken, recognise(report.reply)) <= 0.35

    session = await server.finished("conversation")
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    greeting, question, answer = server.turns("conversation")
    assert word_error_rate(QUESTION, question["text"]) <= 0.2
    assert f"{greeting['text']} {answer['text']}" == spoken


async def test_a_stranger_is_refused(server):
    assert await status_of(server.url, additional_headers={"X-Forwarded-For": "203.0.113.9"}) == 403
    assert await status_of(server.url, origin="https://evil.example") == 403


async def test_its_end_stores_the_call(server):
    """The last of this server's tests; how calls end is in test_draining.py."""
    children, told = server.children(), []

    def follow(event):
        if event.kind == "tts_completed" and not told:  # the greeting's first sentence
            told.append(event)
            server.process.send_signal(signal.SIGTERM)

    report = await run_call([Wait(30)], url=f"{server.url}?profile=long", room_id="end", on_event=follow)
    assert (report.closed_by, report.close_code) == ("server", 1001)
    assert await asyncio.to_thread(server.process.wait, 15) == 0
    assert ended(children) == {}
    session = server.session("end")
    assert (session["status"], session["end_reason"]) == ("completed", "drained")
    assert session["turn_count"] == 2
    greeting, farewell = server.turns("end")
    assert farewell["text"]
    assert greeting["text"].startswith("Welcome to our pizza service.")
    assert greeting["end_ms"]
