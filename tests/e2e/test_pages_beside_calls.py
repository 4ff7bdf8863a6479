"""The voice of calls keeps its beat while people read pages, however long those are."""

import asyncio
import json
import sys
import time
import uuid
from contextlib import asynccontextmanager, suppress
from itertools import pairwise

import numpy as np
import pytest
from websockets.asyncio.client import connect

from calls.simulator.call import call_url
from tests.e2e.server import ROOT, AgentServer

CALLS = 3
TURNS = 5000
READERS = 8
VOICE_MESSAGES = 300  # of each call: six seconds
MOST_LATER_MS = 40  # two voice messages; with a thread for each request it was 80 to 90
LONG = " ".join(["We have many kinds of pizza on our menu today."] * 24)
PROFILE = {"slug": "talkative", "is_default": True, "system_prompt": "Be brief.", "greeting": LONG}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with many calls stored, and one of them long."""
    server = AgentServer(tmp_path_factory.mktemp("pages"), profiles=[PROFILE])
    with server:
        server.python("manage.py", "fill", "--calls", "300", "--long", str(TURNS), "--verbosity", "0")
        yield server


@pytest.fixture
def paths(server):
    """The long call from its beginning and in its middle, the list, what is searched, profiles, the admin."""
    counted = "SELECT session_id AS id, count(*) AS n FROM calls_turn GROUP BY 1 ORDER BY n DESC LIMIT 1"
    ((call, turns),) = [row.values() for row in server.rows(counted)]
    assert turns == TURNS
    long_call = f"/calls/{uuid.UUID(call)}/"
    return [
        long_call, f"{long_call}?turn={TURNS // 2}", "/calls/", "/calls/?q=you", "/calls/?q=nobody+said",
        "/calls/?status=failed", "/admin/", "/admin/calls/promptprofile/", "/admin/auth/user/",
        "/profiles/", "/profiles/front-desk/versions/?from=1&to=3", "/profiles/front-desk/results/",
    ]  # fmt: skip


async def gaps_of_a_call(server):
    """Between each voice message of a call and the next, in ms, less the server's wait for a processor."""
    times = []
    async with connect(call_url(server.url, audio="binary")) as ws, asyncio.timeout(60):
        await ws.send(json.dumps({"command": "configure", "room_id": "beside"}))

        async def stream_silence():
            due = time.monotonic()
            while True:
                await ws.send(bytes(320))
                due += 0.01
                await asyncio.sleep(due - time.monotonic())

        streaming = asyncio.create_task(stream_silence())
        async for message in ws:
            if isinstance(message, bytes):
                times.append(time.monotonic() - server.waited_s())
                if len(times) > VOICE_MESSAGES:
                    break
        streaming.cancel()
        with suppress(asyncio.CancelledError):
            await streaming
    return [(after - before) * 1000 for before, after in pairwise(times)]


async def p99_gap(server):
    """The gap that one voice message in a hundred of several calls at once exceeds, in ms."""
    calls = await asyncio.gather(*(gaps_of_a_call(server) for _ in range(CALLS)))
    return float(np.percentile(np.concatenate(calls), 99))


@asynccontextmanager
async def readers(server, paths):
    """People read these pages meanwhile, all of them and without an error."""
    command = ["-m", "tests.e2e.readers", server.page, str(READERS), *paths]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT, **pipes)
    assert await process.stdout.readline() == b"reading\n"
    yield
    said, _ = await process.communicate(b"")
    assert json.loads(said).keys() == {f"200 {path}" for path in paths}


async def test_no_page_holds_up_the_voice_of_calls(server, paths):
    """Nine pages read by eight people at once: the voice comes as regularly as without them."""
    alone = await p99_gap(server)
    async with readers(server, paths):
        beside = await p99_gap(server)
    assert beside <= alone + MOST_LATER_MS
