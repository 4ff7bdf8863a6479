"""The server process: how it starts, how it ends with calls going on, and what calls leave behind in it."""

import asyncio
import os
import re
import select
import signal
import subprocess
import sys
import time
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect

from calls.simulator.call import run_call
from calls.simulator.script import Say, Wait, WaitForAgent
from calls.simulator.words import words_of
from tests.e2e.conftest import PROFILES
from tests.e2e.server import ROOT, AgentServer
from tests.e2e.speech import say
from tests.e2e.test_socket import status_of, until

QUESTION = "What is the capital of France?"
STORED_WITHIN_MS = 1300  # a second between two writes of a turn that goes on, and the write
KILL_S = 1.5  # after a sentence of the answer
LEASE_S = 30
NOTICED_S = 20  # leases are looked at every 10
SHORT_CALL = [WaitForAgent(0.2)]


def ended(pids, within=10):
    """Wait until none of these processes runs; those that still do after `within` seconds."""
    running = dict(pids)
    deadline = time.monotonic() + within
    for pid in pids:
        try:
            process = os.pidfd_open(pid)
        except ProcessLookupError:
            del running[pid]
            continue
        try:
            if select.select([process], [], [], max(0, deadline - time.monotonic()))[0]:
                del running[pid]
        finally:
            os.close(process)
    return running


# --- How it ends ------------------------------------------------------------------------------------------


async def test_kill_9_loses_nothing_that_was_said_a_second_and_a_bit_before(tmp_path):
    with AgentServer(tmp_path, profiles=PROFILES) as server:
        children = server.children()
        told = []  # (ms, speaker, text) of what was final

        def follow(event):
            if event.kind == "transcription" and event.details["is_final"]:
                told.append((event.ms, "caller", event.details["text"]))
            if event.kind == "tts_completed":
                told.append((event.ms, "agent", event.details["text"]))
                if any(speaker == "caller" for _, speaker, _ in told):
                    asyncio.get_running_loop().call_later(KILL_S, kill, event.ms)

        def kill(answered_ms):
            killed.append(answered_ms + 1000 * KILL_S)
            server.process.kill()

        killed = []
        script = [WaitForAgent(0.3), Say(say(QUESTION)), Wait(30)]
        report = await run_call(script, url=server.url, room_id="killed", on_event=follow)
        assert report.closed_by == "server"
        assert server.stop() == -signal.SIGKILL
        assert ended(children) == {}

        final = [(speaker, text) for ms, speaker, text in told if ms <= killed[0] - STORED_WITHIN_MS]
        assert {speaker for speaker, _ in final} == {"agent", "caller"}
        assert len(final) >= 3  # the greeting, the question, a sentence of the answer
        stored = {speaker: [] for speaker in ("agent", "caller")}
        for turn in server.turns("killed"):
            stored[turn["speaker"]] += words_of(turn["text"])
        for speaker in stored:
            said = [word for who, text in final if who == speaker for word in words_of(text)]
            assert stored[speaker][: len(said)] == said
        assert server.session("killed")["status"] == "active"

        server.start()
        assert server.session("killed")["status"] == "active", "a lease has not lapsed so soon"
        node = server.session("killed")["node_id"]
        server.write(
            "UPDATE calls_node SET seen_at = datetime(seen_at, ?) WHERE id = ?", f"-{LEASE_S} seconds", node
        )
        session = await server.finished("killed", within=NOTICED_S)
        turns = server.turns("killed")
    assert (session["status"], session["end_reason"]) == ("interrupted", "crash")
    assert session["turn_count"] == len(turns) == 3
    assert session["median_latency_ms"] > 0
    # What was known of it a few seconds before.
    assert session["audio_in_s"] > 4
    assert session["client_generation"] == "new"
    assert session["ended_at"] >= session["last_audio_at"] > session["started_at"]


async def test_a_stopped_server_ends_its_calls_and_stores_them(tmp_path):
    """In the middle of what the agent says, as a second signal comes; otherwise: test_draining.py."""
    with AgentServer(tmp_path, profiles=PROFILES) as server:
        children = server.children()

        def follow(event):
            if event.kind == "tts_completed":  # each sentence of the greeting
                server.process.send_signal(signal.SIGTERM)

        url = f"{server.url}?profile=long"
        report = await run_call([Wait(30)], url=url, room_id="stopped", on_event=follow)
        assert (report.closed_by, report.close_code) == ("server", 1001)
        assert await asyncio.to_thread(server.process.wait, 10) == 0
        assert ended(children) == {}

    session = server.session("stopped")
    assert (session["status"], session["end_reason"]) == ("interrupted", "shutdown")
    assert session["turn_count"] == 1
    assert session["audio_out_s"] > 1
    (greeting,) = server.turns("stopped")
    assert greeting["text"].startswith("Welcome to our pizza service.")
    assert greeting["end_ms"]


async def test_a_server_started_with_nohup_outlives_the_terminal(tmp_path):
    deaf = "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); python = sys.executable; "
    command = ["-c", f"{deaf} os.execv(python, [python, *sys.argv[1:]])", "manage.py", "serve"]
    with AgentServer(tmp_path, profiles=PROFILES, command=command) as server:
        async with connect(server.url) as ws:
            server.process.send_signal(signal.SIGHUP)
            await ws.send('{"command": "configure", "room_id": "nohup"}')
            await until(ws, "tts_completed", 20)
        assert await status_of(server.url) == 101


async def test_calls_leave_no_thread_and_no_file_behind(agent):
    async def call(room):
        report = await run_call(SHORT_CALL, url=agent.url, room_id=room)
        assert report.failure is None
        await agent.finished(room)

    def left():
        folder = Path(f"/proc/{agent.process.pid}")
        return {kind: len(list((folder / kind).iterdir())) for kind in ("fd", "task")}

    await asyncio.gather(*(call(f"warm-up-{n}") for n in range(3)))  # thread pools fill up
    before = left()
    for n in range(5):
        await call(f"leaves-nothing-{n}")
    async with asyncio.timeout(10):
        while left() != before:  # noqa: ASYNC110  another process closes them: there is nothing to wait for
            await asyncio.sleep(0.1)


# --- How it starts ----------------------------------------------------------------------------------------


async def greeting_of(server):
    report = await run_call(SHORT_CALL, url=server.url)
    assert report.failure is None
    return report.said_by("agent")


@asynccontextmanager
async def started_together(*servers):
    async with AsyncExitStack() as running:
        for server in servers:
            running.push_async_callback(asyncio.to_thread, server.stop)
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in servers))
        yield


def shown_passwords(server):
    return re.findall(r"User admin, password (\S+) \(shown only now\)", "".join(server.output))


async def test_two_copies_side_by_side_and_a_second_start(tmp_path):
    """Each has its own database, secrets and password; a second start prepares nothing anew."""
    one = AgentServer(tmp_path / "one", ADMIN_PASSWORD="")
    two = AgentServer(tmp_path / "two", ADMIN_PASSWORD="")
    async with started_together(one, two):
        greetings = await asyncio.gather(greeting_of(one), greeting_of(two))
        assert greetings[0] == greetings[1] != ""
        for server in (one, two):
            assert len(server.rows("SELECT id FROM calls_callsession")) == 1
        passwords = [*shown_passwords(one), *shown_passwords(two)]
        assert len(set(passwords)) == 2
        one.stop()
        one.output.clear()
        began = time.monotonic()
        one.start()
        print(f"ready again after {time.monotonic() - began:.1f} s")  # noqa: T201  a figure for the reader
        assert shown_passwords(one) == []
        assert "A first profile" not in "".join(one.output)
        assert await greeting_of(one) == greetings[0]
        assert len(one.rows("SELECT id FROM auth_user")) == 1
        check = "from django.contrib.auth.models import User; print(User.objects.get().check_password(%r))"
        assert "True" in one.python("manage.py", "shell", "--no-imports", "-c", check % passwords[0])


async def test_a_port_in_use_is_said_in_a_line(agent):
    """Nothing else is done: the calls of the server that has the port and the database go on."""
    async with connect(agent.url) as ws:
        await ws.send('{"command": "configure", "room_id": "undisturbed"}')
        await until(ws, "configured")
        second = AgentServer(agent.folder, port=agent.port)
        with pytest.raises(AssertionError, match="the server ended"):
            await asyncio.to_thread(second.start)
        assert second.stop() == 1
        (line,) = second.output
        assert str(agent.port) in line
        assert "in use" in line
        await until(ws, "tts_completed")
        assert agent.session("undisturbed")["status"] == "active"


async def test_two_first_starts_at_once(tmp_path):
    """One prepares, the other waits, and both serve the same database."""
    folder = tmp_path / "shared"
    first, second = (AgentServer(folder, ADMIN_PASSWORD="") for _ in range(2))
    try:
        await asyncio.gather(*(asyncio.to_thread(server.start) for server in (first, second)))
        assert await greeting_of(first) == await greeting_of(second) != ""
        assert len(shown_passwords(first) + shown_passwords(second)) == 1
        assert len(first.rows("SELECT id FROM auth_user")) == 1
        assert len(first.rows("SELECT id FROM calls_promptprofile")) == 1
    finally:
        assert (first.stop(), second.stop()) == (0, 0)
    assert "Traceback" not in "".join(first.output + second.output)


def began_without(environment, *command):
    """What a server says that cannot start, and its exit status."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = done.stdout + done.stderr
    assert "Traceback" not in said
    return said, done.returncode


SERVERS = {
    "daphne": (["manage.py", "serve", "--no-prepare"], 1),
    "uvicorn": (["-m", "uvicorn", "voiceagent.asgi:application", "--lifespan", "on", "--port"], 3),
    "granian": (["-m", "granian", "voiceagent.asgi:application", "--interface", "asgi", "--port"], 1),
}


@pytest.mark.parametrize("name", SERVERS)
def test_a_database_that_nobody_prepared_is_one_sentence(tmp_path, name):
    command, status = SERVERS[name]
    server = AgentServer(tmp_path)
    if name != "daphne":
        command = [*command, str(server.port)]
    (tmp_path / "voiceagent.sqlite3").touch()
    said, returned = began_without(server.environment, *command)
    assert (
        "the database cannot be used (no such table: calls_node); has `manage.py prepare` been run?" in said
    )
    assert returned == status


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"DATABASE_URL": "postgres://nobody@127.0.0.1:1/none"}, "the database cannot be prepared: connect"),
        ({"PORT": "70000"}, "cannot listen on 127.0.0.1 port 70000: bind(): port must be 0-65535."),
        ({"PORT": "1", "HOST": "192.0.2.1", "PRODUCTION": "1", "SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "x",
          "STREAM_TOKENS": "x"}, "cannot listen on 192.0.2.1 port 1: Cannot assign requested address"),
    ],
)  # fmt: skip
def test_what_keeps_it_from_starting_is_one_sentence(tmp_path, environment, sentence):
    server = AgentServer(tmp_path, **environment)
    said, returned = began_without(server.environment, "manage.py", "serve")
    assert sentence in said
    assert returned == 1


async def test_an_ipv4_peer_of_a_server_on_every_address(tmp_path):
    """It arrives as ::ffff:127.0.0.1 and is 127.0.0.1: a call of this machine, and a trusted proxy."""
    settings = {"SECRET_KEY": "x" * 50, "ALLOWED_HOSTS": "agent.example.org", "STREAM_TOKENS": "token"}
    with AgentServer(tmp_path, HOST="::", TRUSTED_PROXIES="127.0.0.1", **settings) as server:
        await greeting_of(server)
        (call,) = server.rows("SELECT remote_address FROM calls_callsession")
        assert call["remote_address"] == "127.0.0.1"
        headers = {"Host": "agent.example.org", "X-Forwarded-Proto": "https"}
        async with httpx.AsyncClient(headers=headers, trust_env=False) as proxy:
            assert (await proxy.get(f"{server.page}/login/")).status_code == 200


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (
            "/nowhere/own.gguf",
            "LOCAL_LLM_PATH=/nowhere/own.gguf: No such file or directory; a GGUF file was expected",
        ),
        (os.devnull, "LOCAL_LLM_PATH=/dev/null is no GGUF file"),
        (str(ROOT), f"LOCAL_LLM_PATH={ROOT}: Is a directory; a GGUF file was expected"),
    ],
)
def test_a_language_model_that_is_none_is_one_sentence(tmp_path, path, sentence):
    server = AgentServer(tmp_path, LOCAL_LLM_PATH=path)
    said, returned = began_without(server.environment, "manage.py", "serve")
    assert returned == 1
    assert sentence in said
