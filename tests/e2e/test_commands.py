"""`manage.py calls`: another process lists the calls of a server and has them do things."""

import asyncio
import json
import subprocess
import sys

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from calls.simulator.call import call_url, run_call
from calls.simulator.script import Wait
from tests.e2e.conftest import PROFILES
from tests.e2e.server import ROOT, AgentServer
from tests.e2e.speech import recognise

NOT_HUNG_UP = (
    "The agent has taken leave, but the caller's telephone was not hung up: "
    "this client cannot be told to hang up, only its socket can be closed."
)


def manage(server, *arguments):
    """Run `manage.py calls` beside the server: its exit status, and what it wrote."""
    done = subprocess.run(
        [sys.executable, "manage.py", "calls", *arguments],
        cwd=ROOT,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, (done.stdout + done.stderr).strip()


@pytest.fixture(scope="module", params=["alone", "redis"])
def server(request, agent, tmp_path_factory):
    """A server without Redis, and one with it."""
    if request.param == "alone":
        yield agent
        return
    redis_url = request.getfixturevalue("redis_url")
    folder = tmp_path_factory.mktemp("commands")
    with AgentServer(folder, profiles=PROFILES, REDIS_URL=redis_url) as with_redis:
        yield with_redis


async def test_a_call_is_listed_told_to_speak_and_hung_up(server):
    url = call_url(server.url, profile="default", caller="+4930123", callee="100")
    greeted, said = asyncio.Event(), asyncio.Event()

    def follow(event):
        if event.kind == "tts_completed":
            (said if greeted.is_set() else greeted).set()

    calling = asyncio.create_task(run_call([Wait(60)], url=url, room_id="told", on_event=follow))
    async with asyncio.timeout(60):
        await greeted.wait()
        status, text = await asyncio.to_thread(manage, server, "list", "--json")
        (row,) = json.loads(text)
        assert (status, row["caller"], row["callee"], row["profile"]) == (0, "+4930123", "100", "default")
        status, text = await asyncio.to_thread(manage, server, "list")
        head, line = text.splitlines()
        short = row["id"][:8]
        assert head.split() == ["ID", "LASTS", "CALLER", "CALLED", "PROFILE", "SERVER"]
        assert (line.split()[0], line.split()[2:]) == (short, ["+4930123", "100", "default", "e2e"])

        told = await asyncio.to_thread(manage, server, "say", short, "Your taxi is waiting outside.")
        assert told == (0, "The agent says it.")
        await said.wait()
        status, text = await asyncio.to_thread(manage, server, "transfer", short, "sales", "--json")
        assert status == 1
        message = "Refused: there is nowhere this call can be transferred to."
        assert json.loads(text) == {"call": row["id"], "ok": False, "message": message}
        assert await asyncio.to_thread(manage, server, "hangup", short) == (0, NOT_HUNG_UP)
        report = await calling
    assert (report.closed_by, report.close_code) == ("server", 1000)
    heard = recognise(report.reply)
    assert "taxi is waiting" in heard
    assert heard.endswith("goodbye")

    session = await server.finished("told")
    assert (session["status"], session["end_reason"]) == ("completed", "hung_up")
    texts = [turn["text"] for turn in server.turns("told")]
    assert texts[1:] == ["Your taxi is waiting outside.", "Thank you for calling, goodbye."]
    (event,) = [each for each in server.events("told") if each["kind"] != "command"]
    assert (event["kind"], event["severity"]) == ("hang_up", "warning")
    commands = [each for each in server.events("told") if each["kind"] == "command"]
    assert [each["severity"] for each in commands] == ["info", "warning", "info"]
    status, text = await asyncio.to_thread(manage, server, "say", row["id"], "Hello?")
    assert status == 1
    assert text.startswith("CommandError: The call has ended at ")
    assert text.endswith(": Agent hung up.")


@pytest.mark.parametrize("beginning", ["x", "", "00000000"])
def test_a_call_that_there_is_none_of(agent, beginning):
    status, text = manage(agent, "hangup", beginning)
    assert (status, text) == (1, f"CommandError: No call has an id that begins with {beginning}.")


def test_a_command_that_is_not_signed_is_refused(agent):
    for headers in ({}, {"Authorization": "Bearer commands:1:x"}):
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://127.0.0.1:{agent.port}/ws/commands", additional_headers=headers, proxy=None)
