"""What has to work on PostgreSQL and Redis as it does on SQLite and in memory."""

import asyncio
import os
import re
import subprocess
import sys
from uuid import UUID

import psycopg
import pytest
from channels_redis.core import RedisChannelLayer
from psycopg.rows import dict_row

from calls.recorder.notify import LIVE_GROUP
from calls.simulator.call import run_call
from calls.simulator.script import Say, WaitForAgent
from calls.simulator.words import word_error_rate
from tests.e2e.conftest import PROFILES
from tests.e2e.server import ROOT, AgentServer
from tests.e2e.speech import say

MODULES = [
    "models", "recorder", "ownership", "profiles", "pages", "health", "admin", "search", "fill", "migrations",
]  # fmt: skip
OPTIONS = [
    "-q",
    "-pno:cacheprovider",
    # It makes the in-memory layer hang, which is not used here.
    "--deselect=tests/test_health.py::test_a_channel_layer_that_hangs_degrades_and_stops_no_call",
    # Threads of the tests leave connections open: psycopg warns of them as SQLite does not, and the database
    # could not be dropped. It goes with its cluster.
    "--reuse-db",
    "-Wignore::pytest.PytestUnraisableExceptionWarning",
]
AT_LEAST = 100  # tests in these modules
QUESTION = "What is the capital of France?"


@pytest.mark.timeout(330)
def test_the_stored_and_the_shown_on_postgresql_and_redis(postgres_url, redis_url, tmp_path):
    """The modules' own tests, in a process whose settings name the services."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, *(f"tests/test_{name}.py" for name in MODULES)],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": postgres_url, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= AT_LEAST
    assert "skipped" not in done.stdout


async def test_a_call_on_postgresql_and_redis(postgres_url, redis_url, tmp_path):
    """Its rows are in PostgreSQL, and another process hears of each through Redis."""
    layer = RedisChannelLayer(hosts=[redis_url])
    channel = await layer.new_channel()
    await layer.group_add(LIVE_GROUP, channel)
    with AgentServer(tmp_path, profiles=PROFILES, DATABASE_URL=postgres_url, REDIS_URL=redis_url) as server:
        script = [WaitForAgent(0.5), Say(say(QUESTION)), WaitForAgent(1.0)]
        report = await run_call(script, url=server.url, room_id="on-services")
        assert report.failure is None
        told = await until_finished(layer, channel)
        await layer.flush()
        await layer.close_pools()
    assert not (tmp_path / "voiceagent.sqlite3").exists()

    with psycopg.connect(postgres_url, row_factory=dict_row) as connection:
        sessions = connection.execute("SELECT * FROM calls_callsession WHERE room_id = 'on-services'")
        (session,) = sessions.fetchall()
        turns = connection.execute(
            'SELECT * FROM calls_turn WHERE session_id = %s ORDER BY "index"', [session["id"]]
        ).fetchall()
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    assert turns[0]["text"] == "Hello, how can I help you today?"
    assert session["in_force"]["stt"]["provider"] == "local"
    assert [turn["speaker"] for turn in turns] == ["agent", "caller", "agent"]
    assert word_error_rate(QUESTION, turns[1]["text"]) <= 0.2
    assert all(turns[2][name] is not None for name in ("stt_ms", "llm_ms", "tts_ms", "total_ms"))

    assert {UUID(change["call_id"]) for change in told} == {session["id"]}
    assert told[0]["what"] == "started"
    assert {change["turn_index"] for change in told if change["what"] == "turn"} == {0, 1, 2}


async def until_finished(layer, channel):
    """What the group was told, up to the end of the call."""
    told = []
    async with asyncio.timeout(20):
        while not told or told[-1]["what"] != "finished":
            told.append(await layer.receive(channel))
    return told
