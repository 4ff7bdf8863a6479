"""The bridge of today's RustPBX: whole calls over audio and keys alone."""

import asyncio
import json

import numpy as np
import pytest
from websockets.asyncio.client import connect

from calls.simulator.call import call_url, run_call
from calls.simulator.script import Say, Send, Wait, WaitForAgent
from calls.simulator.wire import key
from calls.simulator.words import word_error_rate
from tests.e2e.speech import recognise, say

QUESTION = "What is the capital of France?"
GREETING = "Hello, how can I help you today?"
LEAD_MS = 80


def bridge_url(agent, rate, **query):
    return call_url(agent.url, client="bridge", rate=str(rate), **query)


async def ended(agent, caller):
    """The call's row once it is over. The bridge knows no room."""
    sql = "SELECT * FROM calls_callsession WHERE caller = ? AND status <> 'active'"
    async with asyncio.timeout(10):
        while not (rows := agent.rows(sql, caller)):  # noqa: ASYNC110  another process writes it
            await asyncio.sleep(0.05)
    return rows[0]


def turns_of(agent, session):
    return agent.rows('SELECT * FROM calls_turn WHERE session_id = ? ORDER BY "index"', session["id"])


def events_of(agent, session):
    rows = agent.rows("SELECT * FROM calls_callevent WHERE session_id = ? ORDER BY ms, id", session["id"])
    return [{**row, "detail": json.loads(row["detail"])} for row in rows]


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_bridge_that_does_not_say_so_is_known_by_its_audio(agent, rate):
    caller = f"unnamed-{rate}"
    script = [WaitForAgent(0.5), Say(say(QUESTION)), WaitForAgent(1.0)]
    url = call_url(agent.url, caller=caller)
    report = await run_call(script, url=url, generation="bridge", frame_ms=20, rate=rate)
    assert report.failure is None
    assert report.misfit_audio == 0
    session = await ended(agent, caller)
    assert (session["end_reason"], session["client_generation"]) == ("disconnect", "bridge")
    assert word_error_rate(QUESTION, turns_of(agent, session)[1]["text"]) <= 0.2
    assert word_error_rate(GREETING, recognise(report.reply)[: len(GREETING)]) <= 0.3


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
async def test_a_call_over_the_bridge(agent, rate):
    room = f"bridge-{rate}"
    url = bridge_url(agent, rate, caller=room, metadata=json.dumps({"queue": "sales"}))
    script = [WaitForAgent(0.5), Say(say(QUESTION)), WaitForAgent(1.0)]
    report = await run_call(script, url=url, generation="bridge", frame_ms=20, rate=rate)
    assert report.failure is None
    assert (report.messages, report.pings, report.misfit_audio) == ([], 0, 0)
    assert LEAD_MS - 25 <= report.pacing.ahead_ms <= 2 * LEAD_MS  # a machine that stalls delays the first

    session = await ended(agent, room)
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    assert session["client_generation"] == "bridge"
    assert json.loads(session["metadata"]) == {"queue": "sales"}
    turns = turns_of(agent, session)
    assert [turn["speaker"] for turn in turns] == ["agent", "caller", "agent"]
    assert turns[0]["text"] == GREETING
    assert word_error_rate(QUESTION, turns[1]["text"]) <= 0.2
    spoken = " ".join(turn["text"] for turn in turns if turn["speaker"] == "agent")
    assert word_error_rate(spoken, recognise(report.reply)) <= 0.2


async def test_keys_become_events_and_a_turn(agent):
    script = [
        WaitForAgent(0.5),
        *(Send(key(digit)) for digit in "12#"),
        WaitForAgent(1.0, reply=False),
        Wait(3),
    ]
    url = bridge_url(agent, 8000, caller="keys")
    report = await run_call(script, url=url, generation="bridge", frame_ms=20, rate=8000)
    assert report.failure is None
    session = await ended(agent, "keys")
    turns = turns_of(agent, session)
    assert [turn["speaker"] for turn in turns] == ["agent", "caller", "agent"]
    assert turns[1]["text"] == "Keys pressed: 12#"
    pressed = [event["detail"]["digit"] for event in events_of(agent, session) if event["kind"] == "key"]
    assert pressed == ["1", "2", "#"]


async def test_packets_of_any_even_size_and_silence(agent):
    """Comfort noise, a muted phone, packets of other lengths: the call goes on to the socket's end."""
    async with connect(bridge_url(agent, 8000, caller="odd"), compression=None) as socket:
        for size in (0, 2, 4, 160, 480, 960, 320, 3):
            await socket.send(bytes(size))
            await asyncio.sleep(0.02)  # the pace of a telephone
        heard = bytearray()
        async with asyncio.timeout(20):
            while len(heard) < 8000:
                message = await socket.recv()
                assert isinstance(message, bytes)
                heard += message
        socket.transport.close()
    assert np.abs(np.frombuffer(heard, "<i2")).max() > 1000
    session = await ended(agent, "odd")
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    (mistake,) = [event["message"] for event in events_of(agent, session) if event["kind"] == "error"]
    assert mistake == "expected 16-bit samples, an even number of bytes, got 3 bytes"
