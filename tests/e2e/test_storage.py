"""The database and Redis go away during a call: it goes on, and all of it is stored when they are back."""

import asyncio
import json
import re
import resource
import sqlite3
from collections import Counter
from contextlib import closing, contextmanager, nullcontext
from http.client import HTTPConnection
from uuid import UUID

import httpx
import psycopg
import pytest
from channels_redis.core import RedisChannelLayer
from psycopg.rows import dict_row
from websockets.asyncio.client import connect

from calls.recorder.notify import LIVE_GROUP
from calls.simulator.call import run_call
from calls.simulator.script import Say, WaitForAgent
from calls.simulator.words import word_error_rate
from tests.e2e.conftest import PROFILES
from tests.e2e.server import AgentServer
from tests.e2e.speech import say
from tests.e2e.test_socket import until
from tests.services import private_cluster, private_redis

GREETING = PROFILES[0]["greeting"]
QUESTION = "What is the capital of France?"
BACK_S = 30
TURNS = 'SELECT * FROM calls_turn WHERE session_id = %s ORDER BY "index"'
EVENTS = "SELECT * FROM calls_callevent WHERE session_id = %s ORDER BY ms"


@contextmanager
def locked(server):
    """Another program holds the database's write lock."""
    other = sqlite3.connect(server.folder / "voiceagent.sqlite3", isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    yield
    other.close()


@contextmanager
def gone(server):
    """The database's files are moved away, and put back."""
    files = [server.folder / f"voiceagent.sqlite3{suffix}" for suffix in ("", "-wal", "-shm")]
    moved = {file: file.with_name(f"moved-{file.name}") for file in files}
    for file, elsewhere in moved.items():
        file.rename(elsewhere)
    yield
    assert not [file for file in files if file.exists()], "an empty database was made"
    for file, elsewhere in moved.items():
        elsewhere.rename(file)


@contextmanager
def full(server):
    """No file of the server's may grow: what is written fails, as on a disk that is full."""
    most = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, most[1]))
    yield
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, most)


FAULTS = {locked: "", gone: "is gone", full: "OperationalError"}


async def call_during(server, room_id, fault):
    """A question and its answer while the fault lasts, which begins in the midst of the greeting."""
    begun = asyncio.Event()

    def follow(event):
        if event.kind == "tts_started":
            begun.set()

    script = [WaitForAgent(0.8), Say(say(QUESTION)), WaitForAgent(0.8)]
    call = asyncio.create_task(run_call(script, url=server.url, room_id=room_id, on_event=follow))
    await asyncio.wait_for(begun.wait(), 20)
    with fault:
        report = await call
        ready = await asyncio.to_thread(readyz, server)
    assert report.failure is None
    return ready


def readyz(server):
    """The status of /readyz, and what it says."""
    with closing(HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        return response.status, json.load(response)


async def outage_of(events):
    """What the call's record says of the outage: it comes after the end of the call."""
    async with asyncio.timeout(BACK_S):
        while not (  # noqa: ASYNC110  another process writes it
            found := [event["message"] for event in events() if event["provider"] == "database"]
        ):
            await asyncio.sleep(0.1)
    assert len(found) == 1
    assert found[0].startswith("the database was away for ")
    return found[0]


def assert_whole(session, turns):
    """Nothing of the call is missing."""
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    assert [turn["speaker"] for turn in turns] == ["agent", "caller", "agent"]
    assert turns[0]["text"] == GREETING
    assert word_error_rate(QUESTION, turns[1]["text"]) <= 0.2
    assert all(turn["final"] for turn in turns)


async def test_a_sqlite_database_that_is_locked_gone_or_full_loses_nothing(tmp_path):
    with AgentServer(tmp_path, profiles=PROFILES) as server:
        for fault, cause in FAULTS.items():
            room = fault.__name__
            _, ready = await call_during(server, room, fault(server))
            assert ready["checks"]["database"] == ("failed" if fault is gone else "ok")
            session = await server.finished(room, within=BACK_S)
            assert_whole(session, server.turns(room))
            if cause:
                assert cause in await outage_of(lambda room=room: server.events(room))
        assert server.stop() == 0
    assert "Traceback" not in "".join(server.output)


@pytest.fixture
def cluster():
    with private_cluster() as cluster:
        yield cluster


async def test_a_postgresql_server_that_goes_away_loses_nothing(cluster, tmp_path):
    with AgentServer(tmp_path, profiles=PROFILES, DATABASE_URL=cluster.url) as server:

        @contextmanager
        def away():
            cluster.stop()
            yield
            cluster.start()

        status, ready = await call_during(server, "away", away())
        assert (status, ready["status"]) == (503, "unavailable")
        assert ready["checks"]["process"] == "ok"

        @contextmanager
        def only_reads():
            rule = "ALTER DATABASE voiceagent SET default_transaction_read_only = %s"
            others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            with psycopg.connect(f"{cluster.address}/postgres", autocommit=True) as connection:
                connection.execute(rule % "on")
                connection.execute(others)
                yield
                connection.execute(rule % "off")
                connection.execute(others)

        status, ready = await call_during(server, "read-only", only_reads())
        assert status == 200

        with psycopg.connect(cluster.url, row_factory=dict_row, autocommit=True) as connection:
            for room in ("away", "read-only"):
                session = await finished(connection, room)
                assert_whole(session, rows_of(connection, TURNS, session))
                await outage_of(lambda session=session: rows_of(connection, EVENTS, session))
        assert server.stop() == 0
    assert "rows were left out" not in "".join(server.output)


async def test_pages_leave_the_database_to_the_calls(cluster, tmp_path):
    """600 pages, 20 at a time, and 50 calls meanwhile, on a PostgreSQL that takes 100 connections."""
    with AgentServer(tmp_path, profiles=PROFILES, DATABASE_URL=cluster.url, MAX_CALLS="60") as server:
        most = 0
        async with httpx.AsyncClient(base_url=server.page, trust_env=False, timeout=60) as browser:
            await log_in(browser)
            gate, seen = asyncio.Semaphore(20), Counter()

            async def read():
                async with gate:
                    seen[(await browser.get("/calls/")).status_code] += 1

            async def call(number):
                async with connect(f"{server.url}?profile=quiet&caller=beside-{number}") as ws:
                    await ws.send(json.dumps({"command": "configure", "room_id": f"beside-{number}"}))
                    for _ in range(20):
                        await ws.send(bytes(320))
                        await asyncio.sleep(0.05)  # the pace of a telephone, slowed
                    await until(ws, "configured")

            work = asyncio.gather(*(read() for _ in range(600)), *(call(number) for number in range(50)))
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                open_now = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'voiceagent'"
                while not work.done():
                    most = max(most, connection.execute(open_now).fetchone()[0])
                    await asyncio.wait({work}, timeout=0.05)
            await work
        assert seen == {200: 600}
        assert most <= 12, "the recorder's, the lease's, two for profiles, pages, health, and this one"
        with psycopg.connect(cluster.url, row_factory=dict_row, autocommit=True) as connection:
            for number in range(50):
                session = await finished(connection, f"beside-{number}")
                assert (session["status"], session["error"]) == ("completed", "")


async def log_in(browser):
    page = await browser.get("/login/")
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = {"username": "admin", "password": "correct horse battery", "csrfmiddlewaretoken": token}
    assert (await browser.post("/login/", data=form)).status_code == 302


async def finished(connection, room):
    """The call's row once it has ended."""
    sql = "SELECT * FROM calls_callsession WHERE room_id = %s AND status <> 'active'"
    async with asyncio.timeout(BACK_S):
        while not (row := connection.execute(sql, [room]).fetchone()):  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.1)
    return row


def rows_of(connection, sql, session):
    return connection.execute(sql, [session["id"]]).fetchall()


async def test_redis_goes_away_and_only_those_who_watch_notice(tmp_path):
    with (
        private_redis() as redis,
        AgentServer(tmp_path, profiles=PROFILES, REDIS_URL=redis.url) as server,
    ):

        @contextmanager
        def away():
            redis.stop()
            yield
            redis.start()

        status, ready = await call_during(server, "away", away())
        assert (status, ready["status"], ready["checks"]["channel_layer"]) == (200, "degraded", "failed")
        session = await server.finished("away")
        assert_whole(session, server.turns("away"))

        await call_during(
            server, "found again", nullcontext()
        )  # its first change may meet the old connection
        await server.finished("found again")
        layer = RedisChannelLayer(hosts=[redis.url])
        channel = await layer.new_channel()
        await layer.group_add(LIVE_GROUP, channel)
        await call_during(server, "back", nullcontext())
        session = await server.finished("back")
        told = []
        async with asyncio.timeout(20):
            while not told or told[-1]["what"] != "finished":
                told.append(await layer.receive(channel))
        assert {UUID(change["call_id"]).hex for change in told} == {session["id"]}
        counted = Counter(change["what"] for change in told)
        assert (counted["started"], counted["finished"]) == (1, 1)
        await layer.flush()
        await layer.close_pools()
        output = "".join(server.output)
    assert output.count("telling the pages that watch calls, over the channel layer, has failed") == 1
    assert "over the channel layer, works again" in output
