"""What may be asked of a running call: ending it, transferring it, saying something, holding on."""

# ruff: noqa: F811  the fixtures of another module are imported by their names

import asyncio
import json

import pytest
from asgiref.sync import sync_to_async
from pipecat.frames.frames import LLMContextFrame, LLMUpdateSettingsFrame, TTSSpeakFrame

from calls.conversation import control, verbs, watchdog
from calls.conversation.control import NO_CONTROL, Refused
from calls.events import LLM
from calls.gateway import connection, registry
from calls.gateway.arrival import Arrival
from calls.gateway.places import places
from calls.models import EndReason
from calls.process import this_process
from calls.providers import catalogue
from tests.conftest import edit_profiles
from tests.e2e.speech import recognise
from tests.test_connection import (  # noqa: F401  the fixtures
    FRAME,
    VOICE,
    Silent,
    dial,
    finished,
    profile,
    providers,
    stored,
    stored_events,
)

pytestmark = pytest.mark.django_db(transaction=True)

BEEP = len(VOICE)  # what the voice of these tests says, whatever the text
FAREWELL, ANNOUNCEMENT = "Goodbye!", "Connecting you to {{ destination }}."
GONE = "the agent answers already"


class Pbx:
    """The control of a call as a PBX gives it; `told` is what it was told."""

    def __init__(self, fails=None):
        self.told = []
        self.asked = asyncio.Event()
        self._fails = fails

    def destinations(self):
        return {"sales": "our sales desk", "night": "the night desk"}

    async def end(self):
        await self._take("end")

    async def transfer(self, destination):
        await self._take(destination)

    async def _take(self, order):
        self.asked.set()
        if self._fails is TimeoutError:
            await asyncio.Event().wait()
        if self._fails:
            raise self._fails
        self.told.append(order)


class Model(Silent):
    """A language model that answers everything with one beep."""

    async def process_frame(self, frame, direction):
        if isinstance(frame, LLMContextFrame):
            Model.asked.put_nowait([message["content"] for message in frame.context.messages])
            await self.push_frame(TTSSpeakFrame("Yes."))
        elif isinstance(frame, LLMUpdateSettingsFrame):
            Model.prompts.put_nowait(frame.delta.system_instruction)
        else:
            await super().process_frame(frame, direction)


def model(values, language):
    return Model()


@pytest.fixture
async def asked(providers, profile, monkeypatch):
    """What the model of the profile is asked, each time the whole conversation."""
    ours = catalogue.Provider("llm", "model", "Model", __name__, "model", ())
    monkeypatch.setattr(catalogue, "PROVIDERS", [*catalogue.PROVIDERS, ours])
    monkeypatch.setattr(Model, "asked", asyncio.Queue(), raising=False)
    monkeypatch.setattr(Model, "prompts", asyncio.Queue(), raising=False)
    texts = {"greeting": "Hello", "farewell": FAREWELL, "transfer_announcement": ANNOUNCEMENT}
    await sync_to_async(edit_profiles)(llm_provider="model", **texts)
    return Model.asked


@pytest.fixture
async def talk(asked, dial):
    """Makes connections over the bridge, announced as a PBX does it; afterwards no call is left."""

    async def connect(pbx=NO_CONTROL, key="", why_back="", rate=16_000):
        async def serve(scope, receive, send):
            await receive()
            await send({"type": "websocket.accept"})
            line = connection.Connection(scope, send, Arrival(key, pbx, why_back))
            with registry.registered(line):
                await line.run(receive)

        client = await dial(f"client=bridge&rate={rate}", serve)
        await client.send_to(bytes_data=FRAME)
        await hear(client, BEEP * rate // 16_000)  # the greeting, or that the call is back
        return client

    yield connect
    assert registry.running == registry._parked == {}
    assert this_process.load.calls == 0


async def hear(client, size):
    """So many bytes of the agent's voice."""
    heard = 0
    while heard < size:
        heard += len((await client.until("voice"))["pcm"])


async def rest(client):
    """The agent's voice up to the end of the socket, and the code it is closed with."""
    pcm = b""
    async with asyncio.timeout(20):
        while (event := await client.receive_output(timeout=20))["type"] != "websocket.close":
            pcm += event.get("bytes") or b""
    await client.wait(10)
    return pcm, event["code"]


async def press(client, keys):
    """The caller presses keys, a turn if the last one is "#"."""
    for digit in keys:
        await client.send_to(text_data=json.dumps({"type": "dtmf", "digit": digit, "leg_id": "caller"}))


async def lose(client):
    """The caller hangs up, as the bridge tells it."""
    await client.send_input({"type": "websocket.disconnect", "code": 1006})
    await client.wait(10)


def the_call():
    (call,) = registry.running.values()
    return call


async def story():
    """The call's row once it is written, and its events but for the keys, in words."""
    session = await finished()
    events = [(event.kind, event.severity, event.message) for event in await stored_events()]
    return session, [event for event in events if event[0] != "key"]


# --- Ending -----------------------------------------------------------------------------------------------


async def test_the_telephone_is_hung_up_after_the_farewell(talk):
    pbx = Pbx()
    client = await talk(pbx)
    assert await the_call().verbs.end(EndReason.HUNG_UP) == ""
    assert pbx.told == ["end"]
    assert await rest(client) == (VOICE, 1000)
    session, events = await story()
    assert (session.status, session.end_reason) == ("completed", "hung_up")
    assert events == [("hang_up", "info", "the agent hung up")]


async def test_the_longest_duration_hangs_up_too(talk):
    await sync_to_async(edit_profiles)(max_duration_s=0, greeting="")
    pbx = Pbx()
    client = await talk(pbx)  # hears the farewell
    assert await rest(client) == (b"", 1000)
    assert pbx.told == ["end"]
    session, _ = await story()
    assert session.end_reason == "max_duration"


@pytest.mark.parametrize(
    ("pbx", "why"),
    [
        (NO_CONTROL, "this client cannot be told to hang up, only its socket can be closed"),
        (Refused("the call is gone"), "the call is gone"),
        (RuntimeError("secret"), "it failed with RuntimeError"),
        (TimeoutError, "the PBX did not answer within 0.1 s"),
    ],
)
async def test_a_telephone_that_cannot_be_hung_up(talk, monkeypatch, pbx, why):
    """The socket is closed all the same, and it is told and stored what was not done."""
    monkeypatch.setattr(control, "ANSWERS_WITHIN_S", 0.1)
    client = await talk(pbx if pbx is NO_CONTROL else Pbx(pbx))
    assert await the_call().verbs.end(EndReason.HUNG_UP) == why
    assert await rest(client) == (VOICE, 1000)
    _, events = await story()
    assert events == [("hang_up", "warning", f"the caller's telephone was not hung up: {why}")]


async def test_nothing_else_is_done_during_the_farewell(talk):
    client = await talk(Pbx())
    call = the_call()
    ending = asyncio.create_task(call.verbs.end(EndReason.HUNG_UP))
    await asyncio.sleep(0)
    for ask in (
        call.verbs.say("Wait!"),
        call.verbs.transfer("sales"),
        call.verbs.end(EndReason.MAX_DURATION),
        call.verbs.hold_on("Wait!"),
        call.verbs.go_on(),
    ):
        with pytest.raises(Refused, match="the agent is taking leave of the caller"):
            await ask
    await ending
    await rest(client)
    assert (await finished()).end_reason == "hung_up"


# --- Saying, holding on -----------------------------------------------------------------------------------


async def test_a_text_is_said(talk):
    client = await talk()
    await the_call().verbs.say("Your taxi is here.")
    await hear(client, BEEP)
    for text in ("", " ", "a" * 1001):
        with pytest.raises(Refused, match=f"expected a text of 1 to 1000 characters, got one of {len(text)}"):
            await the_call().verbs.say(text)
    with pytest.raises(Refused, match=r"\{\{ calle \}\} is not known"):
        await the_call().verbs.say("Hello {{ calle }}.")
    await lose(client)


async def test_what_a_muted_agent_is_told_to_say_is_a_template_and_no_late_answer(talk):
    await sync_to_async(edit_profiles)(tts_provider="local", greeting="Hi.")
    client = await talk()
    call = the_call()
    await call.verbs.mute()
    await call._conversation.type("Is anybody there?")
    async with asyncio.timeout(10):
        while not any("anybody" in turn.text for turn in await turns()):  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.02)
    await call.verbs.say("This is {{ profile }}, one moment.")
    await call._conversation.spoken()
    await lose(client)
    spoken = {turn.text: turn.total_ms for turn in await turns()}
    assert spoken["This is default, one moment."] is None


async def test_a_caller_who_holds_on_is_answered_afterwards(talk, asked):
    client = await talk()
    call = the_call()
    with pytest.raises(Refused, match=GONE):
        await call.verbs.go_on()
    await call.verbs.hold_on("One moment.")
    await hear(client, BEEP)
    await press(client, "1#2#")
    async with asyncio.timeout(10):
        while not any("2#" in turn.text for turn in await turns()):  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.02)
    assert asked.empty()
    assert call._watchdog._timer is None  # no answer is due
    await call.verbs.go_on()
    assert (await asyncio.wait_for(asked.get(), 10))[-1] == "Keys pressed: 1# Keys pressed: 2#"
    await hear(client, BEEP)
    await press(client, "3#")
    assert (await asyncio.wait_for(asked.get(), 10))[-1] == "Keys pressed: 3#"
    await lose(client)
    assert (await finished()).error_count == 0  # that no answer came was no failure


async def test_nobody_holds_on_for_ever(talk, asked, monkeypatch):
    monkeypatch.setattr(verbs, "HOLD_S", 0.1)
    client = await talk()
    await the_call().verbs.hold_on("One moment.")
    await press(client, "1#")
    assert (await asyncio.wait_for(asked.get(), 10))[-1] == "Keys pressed: 1#"
    await lose(client)


async def test_a_muted_agent_breaks_off_and_answers_nothing_until_it_may(talk, asked):
    await sync_to_async(edit_profiles)(tts_provider="local", greeting="Hi.")
    client = await talk()
    call = the_call()
    await call.verbs.say(" ".join(["We have many kinds of pizza on our menu."] * 20))
    await hear(client, 10 * BEEP)
    await call.verbs.mute()
    await press(client, "1#")
    async with asyncio.timeout(10):
        while not any("1#" in turn.text for turn in await turns()):  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.02)
    assert asked.empty()
    await call.verbs.go_on()
    assert "Keys pressed: 1#" in await asyncio.wait_for(asked.get(), 10)
    with pytest.raises(Refused, match=GONE):
        await call.verbs.go_on()
    await lose(client)
    assert (await finished()).error_count == 0
    spoken = [turn for turn in await turns() if "We have" in turn.text]
    assert [turn.interrupted for turn in spoken] == [True]
    assert (await finished()).audio_out_s < 20  # of more than a minute


async def test_another_prompt_takes_the_place_of_all_there_was(talk):
    """Whatever the client sent, and what it sends afterwards is added to the new one."""
    client = await talk()
    call = the_call()
    await call.verbs.client_prompt("Be formal.")
    await call.verbs.prompt("Speak of nothing but cheese.")
    await call.verbs.client_prompt("Be brief.")
    prompts = [await asyncio.wait_for(Model.prompts.get(), 10) for _ in range(3)]
    new = "Speak of nothing but cheese."
    assert prompts[1:] == [new, f"{new}\n\nBe brief."]
    for text in (" ", "a" * 20_001):
        with pytest.raises(Refused, match="expected a prompt of 1 to 20000 characters"):
            await call.verbs.prompt(text)
    await lose(client)


async def test_another_prompt_is_a_template_as_the_profiles_is(talk):
    client = await talk()
    call = the_call()
    with pytest.raises(Refused, match=r"\{\{ calle \}\} is not known; there are caller, .*[^.]$"):
        await call.verbs.prompt("Greet {{ calle }}.")
    await call.verbs.prompt('You are {{ profile }}. Greet {{ metadata.name|default:"the guest" }}.')
    assert await asyncio.wait_for(Model.prompts.get(), 10) == "You are default. Greet the guest."
    await lose(client)


async def turns():
    await finished()
    session = await stored()
    return [turn async for turn in session.turns.all()]


# --- Transferring -----------------------------------------------------------------------------------------


async def test_a_transfer_that_fails_comes_back(talk, asked):
    """The same call goes on: one row, turns numbered on, and the model knows why."""
    pbx = Pbx()
    client = await talk(pbx, key="a")
    await press(client, "1#")
    await asyncio.wait_for(asked.get(), 10)
    await hear(client, BEEP)
    call = the_call()
    transferring = asyncio.create_task(call.verbs.transfer("sales"))
    await press(client, "2#")  # neither stops the announcement nor is answered
    assert await rest(client) == (VOICE, 1000)
    await transferring
    assert pbx.told == ["sales"]
    assert (await finished()).status == "active"
    assert (this_process.load.calls, places.kept) == (0, 1)
    assert asked.empty()

    client = await talk(Pbx(), key="a", why_back="busy")
    messages = await asyncio.wait_for(asked.get(), 10)
    assert messages[-1].startswith(
        "The transfer to our sales desk failed: busy. The caller is back with you."
    )
    assert "Keys pressed: 1#" in messages
    assert the_call() is call
    await press(client, "3#")
    assert (await asyncio.wait_for(asked.get(), 10))[-1] == "Keys pressed: 3#"
    await hear(client, BEEP)
    await lose(client)
    session, events = await story()
    assert (session.status, session.end_reason) == ("completed", "disconnect")
    said = [(turn.index, turn.text) for turn in await turns()]
    assert [text for _, text in said] == ["Keys pressed: 1#", "Keys pressed: 2#", "Keys pressed: 3#"]
    assert [index for index, _ in said] == [0, 1, 2]
    assert events == [
        ("transfer", "info", "the agent transfers the call to sales"),
        ("transfer", "warning", "the transfer to sales failed: busy"),
    ]
    assert session.audio_out_s == pytest.approx(0.5)  # greeting, answer, announcement, why it is back, answer


async def test_the_announcement_is_spoken_to_its_end(talk):
    """By the embedded voice, which speaks more slowly than a beep; only then is the PBX told."""
    await sync_to_async(edit_profiles)(tts_provider="local", greeting="Hi.")
    pbx = Pbx()
    client = await talk(pbx)
    transferring = asyncio.create_task(the_call().verbs.transfer("sales"))
    pcm, _ = await rest(client)
    await transferring
    assert pbx.told == ["sales"]
    assert "connecting you to our sales desk" in recognise(pcm)
    session, events = await story()
    assert session.end_reason == "transferred"  # without a key it cannot come back
    assert events[-1] == ("transfer", "info", "sales has taken the call")


@pytest.mark.parametrize(
    ("pbx", "why"),
    [
        (Pbx, "expected a destination out of sales, night, got 'garage'"),
        (control.NoControl, "there is nowhere this call can be transferred to"),
    ],
)
async def test_a_destination_there_is_none_of(talk, pbx, why):
    client = await talk(pbx())
    with pytest.raises(Refused, match=why):
        await the_call().verbs.transfer("garage")
    await lose(client)
    session, events = await story()
    assert events == []
    assert session.audio_out_s == pytest.approx(0.1)  # nothing was announced


async def test_a_transfer_that_the_pbx_refuses(talk, asked):
    client = await talk(Pbx(Refused("the PBX is away")))
    with pytest.raises(Refused, match="the PBX is away"):
        await the_call().verbs.transfer("night")
    assert "night desk failed: the PBX is away." in (await asyncio.wait_for(asked.get(), 10))[-1]
    await hear(client, 2 * BEEP)
    await press(client, "1#")
    assert (await asyncio.wait_for(asked.get(), 10))[-1] == "Keys pressed: 1#"
    await lose(client)
    _, events = await story()
    assert events[-1] == ("transfer", "warning", "the transfer to night failed: the PBX is away")


async def test_a_model_that_does_not_say_why_the_call_is_back_has_failed(talk, monkeypatch):
    await sync_to_async(edit_profiles)(llm_provider="test", apology="Sorry!")  # it says nothing, ever
    monkeypatch.setitem(watchdog.DUE_S, LLM, 0.1)
    client = await talk(Pbx(Refused("the PBX is away")))
    with pytest.raises(Refused):
        await the_call().verbs.transfer("night")
    await hear(client, 2 * BEEP)  # the announcement and the apology
    await lose(client)
    _, events = await story()
    assert events[-1] == ("provider_failure", "error", "nothing came from it within 0 s")


async def test_a_caller_who_hangs_up_during_the_announcement_is_not_transferred(talk):
    await sync_to_async(edit_profiles)(tts_provider="local", greeting="Hi.")
    pbx = Pbx()
    client = await talk(pbx, key="a")
    transferring = asyncio.create_task(the_call().verbs.transfer("sales"))
    await hear(client, BEEP)
    await lose(client)
    with pytest.raises(Refused, match="the call has ended"):
        await transferring
    assert pbx.told == []
    session, events = await story()
    assert session.end_reason == "disconnect"
    assert events[-1][2] == "the transfer to sales failed: the call has ended"


# --- Parked -----------------------------------------------------------------------------------------------


async def parked(talk, key="a"):
    """A call that has been handed on and may come back."""
    client = await talk(Pbx(), key=key)
    call = the_call()
    await call.verbs.transfer("sales")
    await rest(client)
    return call


async def ended(call):
    """The row of a call that is about to end, and its events."""
    async with asyncio.timeout(10):
        while registry.running or registry._endings._tasks:  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.01)
    return await story()


async def test_a_call_that_is_not_back_in_time_ends(talk, monkeypatch):
    """As of when it was handed on."""
    monkeypatch.setattr(registry, "PARKED_S", 1.0)
    call = await parked(talk)
    session, events = await ended(call)
    assert (session.status, session.end_reason) == ("completed", "not_back")
    ms = (session.ended_at - session.started_at).total_seconds() * 1000
    handed_on = [event.ms for event in await stored_events()][-1]
    assert ms - handed_on < 900
    assert events == [("transfer", "info", "the agent transfers the call to sales")]


async def test_a_call_that_was_taken_ends(talk):
    call = await parked(talk)
    await registry.end_parked("a", EndReason.TRANSFERRED)
    await registry.end_parked("a", EndReason.DISCONNECT)  # too late
    session, events = await ended(call)
    assert (session.status, session.end_reason) == ("completed", "transferred")
    assert events[-1] == ("transfer", "info", "sales has taken the call")


async def test_a_server_that_stops_ends_what_is_parked(talk):
    call = await parked(talk)
    await registry.shutdown()
    session, _ = await ended(call)
    assert (session.status, session.end_reason) == ("interrupted", "shutdown")


async def test_a_parked_call_whose_pipeline_ends(talk):
    call = await parked(talk)
    await call._conversation.stop()
    session, _ = await ended(call)
    assert session.error == "the call's pipeline ended before the call did"
    assert session.end_reason == "error"


async def test_another_voice_or_another_key_begins_another_call(talk, asked):
    call = await parked(talk)
    for arrival in ({"key": "b"}, {"key": "a", "rate": 8000}):
        client = await talk(Pbx(), **arrival)
        assert len(registry.running) == 2
        await lose(client)
    await registry.end_parked("a", EndReason.TRANSFERRED)
    assert asked.empty()
    assert call.id not in registry.running


async def test_a_second_call_with_a_key_ends_the_first(talk):
    first = await parked(talk)
    client = await talk(Pbx(), key="a", rate=8000)
    (second,) = set(registry.running.values()) - {first}
    await second.verbs.transfer("sales")
    await rest(client)
    async with asyncio.timeout(10):
        while first.id in registry.running:  # noqa: ASYNC110  nobody is told
            await asyncio.sleep(0.01)
    await registry.end_parked("a", EndReason.TRANSFERRED)
