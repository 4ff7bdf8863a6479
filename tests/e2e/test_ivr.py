"""Whole telephone calls as RustPBX 0.5 has them: its IVR asks us, its bridge carries the audio."""

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from calls.simulator.packets import Packets
from calls.simulator.pbx import Pbx
from calls.simulator.script import Say, Wait, WaitForAgent
from calls.simulator.telephone import Ivr, Target
from calls.simulator.words import word_error_rate
from tests.e2e.server import AgentServer
from tests.e2e.speech import recognise, say

QUESTION = "What is the capital of France?"
GREETING = "Hello, how can I help you today?"
FAREWELL = "Our time is over, goodbye."
BUSY = "Nobody can take your call now."
SALES = {"name": "sales", "target": "sip:200@pbx"}
HANGS_UP = [WaitForAgent(0.5), Wait(0.2)]
STAYS = [Wait(60)]


@asynccontextmanager
async def pbx_of(agent, name, **fields):
    """A RustPBX that the server knows, and how its IVR asks."""
    async with Pbx() as pbx:
        values = {"name": name, "agent_url": agent.page, "console_url": pbx.url, "overflow_text": BUSY}
        # A process of its own: away from the loop, which serves the PBX.
        made = await asyncio.to_thread(
            agent.python, "-m", "tests.e2e.make_pbx", json.dumps([values | fields])
        )
        pbx.pk, token = made.split()
        yield pbx, Ivr(f"{agent.page}/rustpbx/ivr", token, f"{agent.page}/rustpbx/webhook")


def rows(agent, pbx):
    """The calls of a PBX and what is known of them there, oldest first."""
    return agent.rows(
        "SELECT c.*, s.state, s.bridges, s.hung_up_by, s.call_id AS called FROM calls_callsession c"
        " JOIN calls_pbxsession s ON s.call_id = c.id WHERE s.pbx_id = ? ORDER BY s.id",
        pbx.pk,
    )


async def settled(agent, pbx):
    """The PBX's calls once none is active."""
    async with asyncio.timeout(10):
        # Another process writes them: there is no event to wait for.
        while any(row["status"] == "active" for row in rows(agent, pbx)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return rows(agent, pbx)


async def run(call, within_s=60):
    async with asyncio.timeout(within_s):
        return await call.run()


async def test_a_call_from_the_route_to_the_hang_up(agent):
    """Also of a caller whose packets come in pairs, swapped, doubled and not at all."""
    async with pbx_of(agent, "whole", kept_headers="X-Customer") as (pbx, ivr):
        packets = Packets(pairs=True, lost=0.005, swapped=0.01, doubled=0.005)
        script = [WaitForAgent(0.5), Say(say(QUESTION)), WaitForAgent(1.0)]
        heard = await run(pbx.call(ivr, script, packets=packets))
        (call,) = await settled(agent, pbx)
    assert (heard.kinds, heard.ended_by, heard.silence) == (["bridge"], "caller", "")
    assert heard.reports[0].failure is None
    assert word_error_rate(GREETING, recognise(heard.reports[0].reply)[: len(GREETING)]) <= 0.3
    assert (call["caller"], call["callee"], call["end_reason"]) == ("1001", "agent", "disconnect")
    assert (call["state"], call["hung_up_by"], call["client_generation"]) == ("ended", "caller", "bridge")
    assert json.loads(call["metadata"])["sip_headers"] == {"X-Customer": "7"}
    assert word_error_rate(QUESTION, turns_of(agent, call)[1]["text"]) <= 0.2
    assert "secret" not in "".join(agent.output)


async def test_the_farewell_really_ends_the_call(agent):
    routes = [{"callee": "agent", "profile": "short"}]
    async with pbx_of(agent, "farewell", routes=routes) as (pbx, ivr):
        heard = await run(pbx.call(ivr, STAYS))
        (call,) = await settled(agent, pbx)
    assert (heard.kinds, heard.ended_by, heard.silence) == (["bridge", "hangup"], "system", "")
    assert word_error_rate(FAREWELL, recognise(heard.reports[0].reply)[-len(FAREWELL) :]) <= 0.3
    assert (call["end_reason"], call["hung_up_by"]) == ("max_duration", "system")


async def test_a_ticket_that_is_none_is_not_refused_before_the_upgrade(agent):
    async with connect(f"{agent.url}?client=bridge&ticket=none", compression=None) as socket:
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008


async def test_a_server_without_room_speaks_or_rings_elsewhere(tmp_path):
    with AgentServer(tmp_path, MAX_CALLS="1") as server:
        async with pbx_of(server, "full", overflow_target="sip:100@pbx") as (pbx, ivr):
            first = asyncio.create_task(pbx.call(ivr, [WaitForAgent(0.5), Wait(6)]).run())
            async with asyncio.timeout(20):
                while not rows(server, pbx):  # noqa: ASYNC110  another process writes it
                    await asyncio.sleep(0.02)
            second = await run(pbx.call(ivr, STAYS))
            taken = {"sip:100@pbx": Target(busy=False, talks_s=0.1)}
            third = await run(pbx.call(ivr, STAYS, targets=taken))
            await first
            calls = await settled(server, pbx)
    assert (second.kinds, second.ended_by) == (["transfer", "prompt"], "system")
    assert word_error_rate(BUSY, recognise_wav(second.played[0])) <= 0.3
    assert (third.kinds, third.ended_by) == (["transfer", "hangup"], "system")
    assert [call["end_reason"] for call in calls] == ["disconnect", "overflow", "overflow"]


def recognise_wav(wav):
    from calls.simulator.audio import resampled

    return recognise(resampled(wav[44:], 8000))


async def test_no_audio_connection_is_no_silence(agent):
    """The PBX cannot reach our socket: it tells nobody, and its caller hears nothing until we notice."""
    async with pbx_of(agent, "deaf", agent_url="http://127.0.0.1:9", timeout_ms=500) as (pbx, ivr):
        telephone = pbx.call(ivr, STAYS)
        running = asyncio.create_task(telephone.run())
        async with asyncio.timeout(20):
            await telephone.silent.wait()
            assert "no bridge" in telephone.heard.silence
            while not pbx.commands:  # noqa: ASYNC110  until the server notices
                await asyncio.sleep(0.05)
        assert pbx.commands == [("rwi transfer", telephone.session_id)]
        assert telephone.heard.kinds[0] == "bridge"
        async with asyncio.timeout(20):
            await telephone.silent.wait()  # the text cannot be fetched from there either
        running.cancel()
        (call,) = await settled(agent, pbx)
    assert telephone.heard.kinds == ["bridge", "prompt"]
    assert call["end_reason"] == "overflow"


async def test_a_server_that_dies_gets_its_caller_back(tmp_path):
    """Killed in mid-call: the PBX asks again, and the server that is up by then goes on with the call."""
    with AgentServer(tmp_path) as server:
        async with pbx_of(server, "crash") as (pbx, ivr):
            patient = replace(ivr, max_retries=200)
            telephone = pbx.call(patient, STAYS, HANGS_UP)
            running = asyncio.create_task(telephone.run())
            async with asyncio.timeout(20):
                while not server.rows("SELECT 1 FROM calls_pbxsession WHERE state = 'talking'"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            await asyncio.to_thread(server.stop, 9)
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(60):
                heard = await running
            (call,) = await settled(server, pbx)
    assert (heard.kinds, heard.ended_by) == (["bridge", "bridge"], "caller")
    assert (call["bridges"], call["end_reason"], call["hung_up_by"]) == (2, "disconnect", "caller")


async def test_a_server_that_drains_waits_for_a_transferred_caller(tmp_path):
    """Its last connection ends, the PBX asks, the telephone is busy, and the caller is back."""
    with AgentServer(tmp_path, DRAIN_SECONDS="60") as server:
        async with pbx_of(server, "drains", destinations=[SALES]) as (pbx, ivr):
            busy = {"sip:200@pbx": Target(busy=True, talks_s=2)}
            telephone = pbx.call(ivr, [WaitForAgent(0.5), Wait(60)], HANGS_UP, targets=busy)
            running = asyncio.create_task(run(telephone))
            call = await talking(server, pbx, 1)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop, within=60))
            async with asyncio.timeout(20):
                while not any("no new calls" in line for line in server.output):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert "handed on" in await told_to(server, call, "transfer", "sales")
            heard = await running
            assert await stopping == 0
            (call,) = rows(server, pbx)
    assert (heard.kinds, heard.ended_by, heard.silence) == (["bridge", "transfer", "bridge"], "caller", "")
    assert (call["bridges"], call["end_reason"]) == (2, "disconnect")


async def told_to(agent, call, *command):
    """Give a command to the call; what came of it."""
    return await asyncio.to_thread(agent.python, "manage.py", "calls", command[0], call["id"], *command[1:])


async def talking(agent, pbx, bridges):
    """The PBX's only call once it has its so many-th audio connection and the agent has spoken there."""
    async with asyncio.timeout(30):
        while not (  # noqa: ASYNC110  another process writes it
            found := [
                row for row in rows(agent, pbx) if (row["state"], row["bridges"]) == ("talking", bridges)
            ]
        ):
            await asyncio.sleep(0.05)
    return found[0]


async def test_a_transfer_that_fails_brings_the_caller_back_to_the_same_call(agent):
    async with pbx_of(agent, "transfer", destinations=[SALES]) as (pbx, ivr):
        telephone = pbx.call(
            ivr, [WaitForAgent(0.5), Wait(60)], [WaitForAgent(1.0), Say(say(QUESTION)), Wait(60)]
        )
        running = asyncio.create_task(run(telephone, 100))
        call = await talking(agent, pbx, 1)
        assert "handed on" in await told_to(agent, call, "transfer", "sales")
        call = await talking(agent, pbx, 2)
        async with asyncio.timeout(40):
            while len(turns_of(agent, call)) < 4:  # noqa: ASYNC110  another process writes them
                await asyncio.sleep(0.1)
        await told_to(agent, call, "hangup")
        heard = await running
        (call,) = await settled(agent, pbx)
    assert heard.kinds == ["bridge", "transfer", "bridge", "hangup"]
    assert (heard.rang, heard.ended_by, heard.silence) == (["sip:200@pbx"], "system", "")
    assert (call["status"], call["end_reason"], call["hung_up_by"]) == ("completed", "hung_up", "system")
    events = agent.rows(
        "SELECT kind, message FROM calls_callevent WHERE session_id = ? ORDER BY ms", call["id"]
    )
    assert "sales" in " ".join(event["message"] for event in events if "nobody answered" in event["message"])
    callers = [turn["text"] for turn in turns_of(agent, call) if turn["speaker"] == "caller"]
    assert word_error_rate(QUESTION, callers[-1]) <= 0.2


async def test_a_transfer_that_is_answered_ends_the_call(agent):
    async with pbx_of(agent, "taken", destinations=[SALES]) as (pbx, ivr):
        taken = {"sip:200@pbx": Target(busy=False, talks_s=0.5)}
        telephone = pbx.call(ivr, [WaitForAgent(0.5), Wait(60)], targets=taken)
        running = asyncio.create_task(run(telephone))
        await told_to(agent, await talking(agent, pbx, 1), "transfer", "sales")
        heard = await running
        (call,) = await settled(agent, pbx)
    assert heard.kinds == ["bridge", "transfer", "hangup"]
    assert call["end_reason"] == "transferred"


async def test_back_from_a_queue(agent):
    support = {"name": "support", "target": "nobody", "kind": "queue"}
    async with pbx_of(agent, "queue", destinations=[support]) as (pbx, ivr):
        telephone = pbx.call(ivr, [WaitForAgent(0.5), Wait(60)], HANGS_UP)
        running = asyncio.create_task(run(telephone))
        await told_to(agent, await talking(agent, pbx, 1), "transfer", "support")
        heard = await running
        await settled(agent, pbx)
    assert (heard.kinds, heard.ended_by) == (["bridge", "queue", "bridge"], "caller")


def turns_of(agent, call):
    return agent.rows('SELECT * FROM calls_turn WHERE session_id = ? ORDER BY "index"', call["id"])
