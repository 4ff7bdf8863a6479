"""Commands to running calls: which call is meant, how they get there, what is answered."""

# ruff: noqa: F811  the fixtures of another module are imported by their names

import asyncio
import json
from datetime import timedelta
from io import StringIO
from uuid import UUID, uuid4

import pytest
from channels.layers import get_channel_layer
from django.core.management import CommandError, call_command

from calls.gateway import commands
from calls.gateway.commands import NoAnswer, ask
from calls.models import CallSession, Node
from calls.process import this_process
from tests.conftest import STARTED_AT, end_row, node_row, publish_profile
from tests.e2e.server import free_port
from tests.test_connection import dial, finished, profile, providers, stored_events  # noqa: F401  fixtures
from tests.test_verbs import Pbx, asked, hear, lose, press, rest, talk, the_call  # noqa: F401  the fixtures

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def listening(talk):
    commands.start()
    yield
    await commands.close()


def command(call_id, verb, argument=""):
    return {"call_id": str(call_id), "verb": verb, "argument": argument, "by": "anna"}


# --- Over the channel layer -------------------------------------------------------------------------------


async def test_every_verb_is_carried_out_and_answered(talk, listening, asked):
    client = await talk(Pbx(), key="a")
    call = the_call()

    async def told(verb, argument=""):
        return await ask(this_process.boot, command(call.id, verb, argument))

    assert await told("say", "Hello.") == {"ok": True, "message": "The agent says it."}
    assert (await told("hold", "One moment."))["ok"]
    await press(client, "1#")
    assert await told("resume") == {"ok": True, "message": "The agent answers again."}
    refused = await told("resume")
    assert refused == {
        "ok": False,
        "message": "Refused: the agent answers already.",
    }
    silent = "The agent is silent, and answers nothing for two minutes, or until the call is resumed."
    assert await told("mute") == {"ok": True, "message": silent}
    assert (await told("resume"))["ok"]
    new = {"ok": True, "message": "The agent goes by the new prompt from its next reply on."}
    assert await told("prompt", "Speak of cheese.") == new
    handed_on = "The call was handed on to sales. If it is not taken there, it comes back."
    assert await told("transfer", "sales") == {"ok": True, "message": handed_on}
    await rest(client)
    being = "Refused: the agent is transferring the call to our sales desk."
    assert await told("hangup") == {"ok": False, "message": being}
    client = await talk(Pbx(), key="a", why_back="busy")
    hung_up = {"ok": True, "message": "The agent has taken leave and hung up."}
    assert await told("hangup") == hung_up
    await rest(client)
    assert await told("say", "Hello?") == {"ok": False, "message": "The call has ended."}
    await finished()
    commanded = [event for event in await stored_events() if event.kind == "command"]
    verbs = ["say", "hold", "resume", "resume", "mute", "resume", "prompt", "transfer", "hangup", "hangup"]
    assert [event.detail["verb"] for event in commanded] == verbs
    assert commanded[0].message == "anna: say “Hello.”: The agent says it."
    assert commanded[2].message == "anna: resume: The agent answers again."
    assert commanded[6].message == f"anna: prompt: {new['message']}"
    assert [event.severity for event in commanded].count("warning") == 2
    assert commanded[6].detail == {"verb": "prompt", "argument": "Speak of cheese.", "by": "anna"}


async def test_a_caller_who_hangs_up_during_the_farewell(talk, listening):
    pbx = Pbx()
    client = await talk(pbx)
    hanging_up = asyncio.create_task(ask(this_process.boot, command(the_call().id, "hangup")))
    await asyncio.sleep(0)  # the command is sent
    async with asyncio.timeout(10):
        while the_call().verbs.answers:  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0)
    await lose(client)
    assert await hanging_up == {"ok": False, "message": "Refused: the call has ended meanwhile."}
    assert pbx.told == []


async def test_a_process_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(commands, "ANSWER_S", 0.1)
    with pytest.raises(NoAnswer, match=r"did not answer within 0\.1 s; it may yet do it"):
        await ask(uuid4(), command(uuid4(), "hangup"))


async def test_a_layer_that_is_away_and_comes_back(talk, monkeypatch):
    """Nobody can give commands meanwhile; calls do not notice."""
    layer, failed = get_channel_layer(), asyncio.Event()
    receive = layer.receive

    async def fail(channel):
        failed.set()
        raise ConnectionError("away")

    monkeypatch.setattr(commands, "RETRY_S", 0.01)
    monkeypatch.setattr(layer, "receive", fail)
    commands.start()
    try:
        await asyncio.wait_for(failed.wait(), 10)
        with pytest.raises(NoAnswer, match="Redis cannot be used: ConnectionError: away"):
            await ask(this_process.boot, command(uuid4(), "hangup"))
        monkeypatch.setattr(layer, "receive", receive)
        answer = await ask(this_process.boot, command(uuid4(), "hangup"))
    finally:
        await commands.close()
    assert answer["message"] == "The call has ended."


# --- Which call is meant ----------------------------------------------------------------------------------


def run(*arguments):
    out = StringIO()
    call_command("calls", *arguments, stdout=out)
    return out.getvalue()


ID = UUID("3f2a0000-0000-4000-8000-000000000001")


@pytest.fixture
def node():
    """A process that is there, as far as the database knows, and listens nowhere."""
    row = node_row(address=f"0.0.0.0:{free_port()}", name="one:8765")
    Node.objects.renew(row)
    return row


@pytest.mark.parametrize("beginning", ["3", "3f2a", "3F2A-0000", "3f2a0000000", str(ID), ID.hex])
def test_a_call_is_known_by_the_beginning_of_its_id(make_call, beginning):
    make_call(id=ID)
    other = make_call(id=UUID(int=0x3 << 124 | 0xE << 120))  # 3e…
    CallSession.objects.finish(end_row(other.id))
    (found,) = CallSession.objects.active().with_id(beginning)
    assert found.id == ID
    assert not CallSession.objects.with_id("3f2b").exists()
    assert not CallSession.objects.with_id("").exists()
    assert not CallSession.objects.with_id(ID.hex + "0").exists()


def test_a_beginning_that_several_have(make_call):
    ids = [str(make_call(id=UUID(int=ID.int + n)).id) for n in range(2)]
    with pytest.raises(CommandError, match="Several calls that go on have an id that begins with 3f2a") as e:
        run("hangup", "3f2a")
    assert all(id in str(e.value) for id in ids)


def test_a_call_that_has_ended_says_so(make_call, capsys):
    make_call(id=ID)
    CallSession.objects.finish(end_row(ID))
    message = "The call has ended at 2026-03-04 10:00:10: Client hung up."
    with pytest.raises(CommandError, match=message):
        run("say", "3f2a", "Hello")
    out = StringIO()
    with pytest.raises(SystemExit, match="1"):
        call_command("calls", "say", "3f2a", "Hello", "--json", stdout=out)
    assert json.loads(out.getvalue()) == {"call": None, "ok": False, "message": message}
    with pytest.raises(CommandError, match="No call has an id that begins with 4"):
        run("hangup", "4")


def test_a_call_whose_server_is_gone(make_call):
    make_call(id=ID)
    with pytest.raises(CommandError, match="The server that ran this call is gone"):
        run("hangup", "3f2a")


def test_a_server_that_cannot_be_reached(make_call, node, settings):
    settings.REDIS_URL = ""
    make_call(id=ID, node_id=node.id)
    with pytest.raises(CommandError, match=r"does not answer at 0\.0\.0\.0:") as e:
        run("hangup", "3f2a")
    assert str(e.value).endswith("Commands to a server on another machine need REDIS_URL.")


def test_the_calls_that_go_on(make_call, node, monkeypatch):
    assert run() == run("list") == "No call goes on.\n"
    assert json.loads(run("list", "--json")) == []
    sales = publish_profile("sales")
    make_call(id=ID, node_id=node.id, profile=sales, caller="+4930123", callee="100")
    make_call(id=UUID(int=1), caller="", callee="", started_at=STARTED_AT + timedelta(seconds=7))
    ended = make_call()
    CallSession.objects.finish(end_row(ended.id))
    at = STARTED_AT + timedelta(minutes=62, seconds=5)
    monkeypatch.setattr("calls.management.commands.calls.now", lambda: at)
    assert [line.split() for line in run("list").splitlines()] == [
        ["ID", "LASTS", "CALLER", "CALLED", "PROFILE", "SERVER"],
        ["3f2a0000", "1:02:05", "+4930123", "100", "sales", "one:8765"],
        ["00000000", "1:01:58", "-", "-", "-", "-"],
    ]
    first, second = json.loads(run("list", "--json"))
    assert first == {
        "id": str(ID), "started_at": STARTED_AT.isoformat(), "lasts": "1:02:05", "caller": "+4930123",
        "callee": "100", "profile": "sales", "server": "one:8765", "is_test": False,
    }  # fmt: skip
    assert second["profile"] == ""
