"""One connection, driven as an ASGI server drives it; its providers only pass frames on."""

import asyncio
import json

import numpy as np
import pytest
from asgiref.sync import sync_to_async
from channels.testing import WebsocketCommunicator
from pipecat.frames.frames import (
    EndWorkerFrame,
    TextType,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.processors.frame_processor import FrameProcessor

from calls.audio.format import SAMPLE_RATE
from calls.consumers import RustPBXConsumer
from calls.conversation import call as conversation
from calls.conversation.call import Call
from calls.conversation.verbs import Verbs
from calls.gateway import connection, idle, limits, mistakes, registry
from calls.models import CallEvent, CallSession
from calls.pipeline import build
from calls.profiles import choosing
from calls.providers import catalogue
from calls.recorder import writer
from calls.rustpbx import codec
from tests.conftest import edit_profiles, publish_profile

pytestmark = pytest.mark.django_db(transaction=True)

CONFIGURE = {"command": "configure", "room_id": "room", "system_prompt": None}
DISCONNECT = {"command": "disconnect", "reason": "done"}
FRAME = bytes(640)  # 20 ms
rustpbx = RustPBXConsumer.as_asgi()
VOICE = np.full(SAMPLE_RATE // 10, 1000, "<i2").tobytes()  # 0.1 s


class Silent(FrameProcessor):
    """A service that does nothing."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)


class Beep(Silent):
    """A voice that says the same to everything."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            for spoken in (TTSStartedFrame(), *self.voice_of(frame.text), TTSStoppedFrame()):
                await self.push_frame(spoken)

    def voice_of(self, text):
        return [TTSAudioRawFrame(VOICE, SAMPLE_RATE, 1)]


class Talker(Beep):
    """A voice that takes ten seconds for everything, and tells its words."""

    def voice_of(self, text):
        return [TTSTextFrame(text, TextType.SENTENCE), TTSAudioRawFrame(VOICE * 100, SAMPLE_RATE, 1)]


class Quitter(Silent):
    """A voice that ends the pipeline instead of speaking."""

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSSpeakFrame):
            await self.push_frame(EndWorkerFrame())


class Dead(Silent):
    """A voice that is out of service."""

    is_usable = False


def silent(values, language):
    return Silent()


def beep(values, language):
    return Beep()


def dead(values, language):
    return Dead()


def talker(values, language):
    return Talker()


def quitter(values, language):
    return Quitter()


@pytest.fixture(autouse=True)
def providers(monkeypatch):
    """The providers named "test", and no profile remembered from another test."""
    ours = [
        catalogue.Provider(kind, "test", "Test", __name__, "beep" if kind == "tts" else "silent", ())
        for kind in catalogue.KINDS
    ]
    ours += [
        catalogue.Provider("tts", name, name, __name__, name, ()) for name in ("dead", "quitter", "talker")
    ]
    monkeypatch.setattr(catalogue, "PROVIDERS", catalogue.PROVIDERS + ours)
    monkeypatch.setattr(choosing, "_remembered", {})


def make_profile(slug, **fields):
    names = {f"{kind}_provider": "test" for kind in catalogue.KINDS}
    return publish_profile(slug, system_prompt="", **names, **fields)


@pytest.fixture
def profile(db):
    return make_profile("default", is_default=True)


class Client(WebsocketCommunicator):
    """A client on this machine."""

    def __init__(self, query, application):
        super().__init__(application, f"/ws/rustpbx?{query}")
        self.scope["client"] = ["127.0.0.1", 4711]

    async def say(self, **message):
        await self.send_to(text_data=json.dumps(message))

    async def until(self, kind):
        """The next message of a type; what came before it is skipped."""
        async with asyncio.timeout(10):
            while True:
                event = await self.receive_output(timeout=10)
                if event["type"] == "websocket.close":
                    raise AssertionError(f"closed with {event['code']} before {kind!r}")
                message = json.loads(event["text"]) if event.get("text") else {"type": "voice"}
                if message["type"] == kind:
                    return message | ({"pcm": event["bytes"]} if kind == "voice" else {})

    async def closed(self):
        """The code the server closes with; what came before it is skipped."""
        async with asyncio.timeout(10):
            while (event := await self.receive_output(timeout=10))["type"] != "websocket.close":
                pass
        await self.wait(10)
        return event["code"]

    async def rest(self):
        """The errors still to come, and the code the server closes with."""
        errors = []
        async with asyncio.timeout(10):
            while (event := await self.receive_output(timeout=10))["type"] != "websocket.close":
                if "text" in event and '"error"' in event["text"]:
                    errors.append(json.loads(event["text"]))
        await self.wait(10)
        return errors, event["code"]

    async def hang_up(self):
        """Say goodbye and wait until the server is done with the connection."""
        await self.say(**DISCONNECT)
        assert await self.closed() == 1000


@pytest.fixture
async def dial():
    """Makes connections; at the end the recorder has written all and nothing is left running."""
    clients = []

    async def connect(query="", application=rustpbx):
        client = Client(query, application)
        clients.append(client)
        accepted, _ = await client.connect(timeout=10)
        assert accepted
        return client

    yield connect
    for client in clients:
        if not client.future.done():
            await client.disconnect(timeout=10)
    await writer.close()
    choosing.close()
    await catalogue.close()
    assert registry.live == set()
    assert asyncio.all_tasks() == {asyncio.current_task()}


@sync_to_async
def stored():
    """The call that was made."""
    return CallSession.objects.get()


@sync_to_async
def stored_events():
    """The events of all calls."""
    return list(CallEvent.objects.all())


async def finished():
    """The call that was made, once it is written."""
    assert await writer.recorder().flush(10)
    return await stored()


# --- What the URL says ------------------------------------------------------------------------------------


async def test_the_url_tells_what_configure_cannot(profile, dial):
    client = await dial("caller=%2B15551234&callee=100&metadata=%7B%22campaign%22%3A%20%22spring%22%7D")
    assert (await client.until("connected"))["server"] == "voiceagent"
    await client.say(**CONFIGURE)
    call_id = (await client.until("configured"))["call_id"]
    await client.hang_up()
    session = await finished()
    assert str(session.id) == call_id
    assert (session.caller, session.callee, session.metadata) == ("+15551234", "100", {"campaign": "spring"})
    assert (session.end_reason, session.status) == ("disconnect", "completed")


@pytest.mark.parametrize(
    ("query", "says", "kept"),
    [
        ("metadata=%7B", "JSON object, got '{'", ("", "", {})),
        ("metadata=" + "%5B" * 100_000, "JSON object, got '[[[", ("", "", {})),
        ("caller=" + "1" * 301 + "&callee=7", "caller of at most 255 characters, got 301", ("", "7", {})),
        ("caller=%00", "NUL", ("", "", {})),
        ("audio=mp3", "binary or json, got 'mp3'", ("", "", {})),
        ("rate=44100", "8000 or 16000, got '44100'", ("", "", {})),
    ],
)
async def test_what_the_url_may_not_say_is_told_stored_and_left_out(profile, dial, query, says, kept):
    client = await dial(query)
    error = await client.until("error")
    assert error["code"] == 422
    assert says in error["message"]
    await client.say(**CONFIGURE)
    await client.until("configured")
    await client.hang_up()
    session = await finished()
    assert (session.caller, session.callee, session.metadata) == kept
    assert session.error_count == 1
    (event,) = await stored_events()
    assert (event.message, event.detail) == (error["message"], {"code": 422})


async def test_an_unknown_profile(profile, dial):
    client = await dial("profile=nobody")
    await client.say(**CONFIGURE)
    error = await client.until("error")
    assert error["code"] == 404
    assert "'nobody'" in error["message"]
    await client.until("configured")
    await client.hang_up()
    assert (await finished()).profile_id == profile.pk
    (event,) = await stored_events()
    assert (event.kind, event.message, event.detail) == ("error", error["message"], {"code": 404})


async def test_configure_beats_the_url(profile, dial):
    sales = await sync_to_async(make_profile)("sales")
    client = await dial("profile=default&caller=1")
    await client.say(**CONFIGURE, profile="sales", caller="2")
    await client.until("configured")
    await client.hang_up()
    session = await finished()
    assert (session.profile_id, session.caller) == (sales.pk, "2")


# --- Starting ---------------------------------------------------------------------------------------------


async def test_nobody_to_answer(db, dial, caplog):
    """The caller is refused; whoever looks at the calls or the log sees that, and why."""
    client = await dial("caller=Ann")
    await client.say(**CONFIGURE)
    error = await client.until("error")
    assert (error["code"], error["message"]) == (500, "no profile is published")
    assert await client.closed() == 1011
    assert "refused a call from 127.0.0.1: no profile is published" in caplog.text
    session = await finished()
    assert (session.caller, session.room_id, session.version_id) == ("Ann", "room", None)
    assert (session.status, session.end_reason, session.error_count) == ("failed", "error", 1)
    assert session.error == "no profile is published"
    assert [event.message async for event in CallEvent.objects.all()] == ["no profile is published"]


async def test_a_pipeline_that_cannot_be_built(profile, dial, monkeypatch):
    def refuse(*args):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("tests.test_connection.beep", refuse)
    client = await dial()
    await client.say(**CONFIGURE)
    error = await client.until("error")
    assert (error["code"], error["message"]) == (500, "the call could not be started: RuntimeError")
    assert await client.closed() == 1011
    session = await finished()
    assert (session.end_reason, session.status) == ("error", "failed")
    assert "out of memory" in session.error


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("stt", {"stt_provider": "cartesia"}, "CARTESIA_API_KEY"),
        ("llm", {"llm_provider": "openai"}, "OPENAI_API_KEY"),
        ("tts", {"tts_provider": "cartesia"}, "CARTESIA_API_KEY"),
        ("stt", {"stt_provider": "local", "language": "de"}, "'de'"),
        ("stt", {"stt_provider": "local", "language": "en-us"}, "en-us"),  # Pipecat knows en-US
        ("stt", {"stt_provider": "local", "stt_settings": {"language": "Elvish"}}, "Elvish"),
        ("tts", {"tts_settings": {"voice": "bass"}}, "voice"),
    ],
)
async def test_the_embedded_provider_stands_in(profile, dial, kind, fields, why):
    """RustPBX is told and it is stored; the caller, who is answered, hears no apology."""
    await sync_to_async(edit_profiles)(apology="Sorry!", **fields)
    client = await dial()
    await client.say(**CONFIGURE)
    error = await client.until("error")
    assert error["code"] == 502
    assert error["message"].startswith(f"{kind}: ")
    assert why in error["message"]
    assert error["message"].endswith("; the embedded one, in English, stands in")
    await client.until("configured")
    await client.hang_up()
    session = await finished()
    assert (session.status, session.error, session.error_count) == ("completed", "", 1)
    assert session.audio_out_s == 0
    wanted = fields.get(f"{kind}_provider", "test")
    assert session.in_force[kind]["provider"] == "local"
    assert session.in_force[kind]["instead_of"] == wanted
    assert why in session.in_force[kind]["why"]
    (event,) = await stored_events()
    assert (event.kind, event.severity) == ("provider_failure", "error")
    assert event.provider == f"{kind}/{wanted}"
    assert f"{kind}: {event.message}" == error["message"]


async def test_audio_without_configure_starts_the_default(profile, dial, monkeypatch):
    monkeypatch.setattr(connection, "CONFIGURE_WITHIN_S", 0.05)
    client = await dial("caller=7")
    await client.send_to(bytes_data=FRAME)
    await client.until("configured")
    await client.hang_up()
    session = await finished()
    assert (session.room_id, session.caller, session.audio_in_s) == ("", "7", 0.02)


@pytest.mark.parametrize("within", [0, 0.05])  # it comes while the call starts, or when it is there
async def test_the_first_configure_tells_of_a_call_that_audio_started(profile, dial, monkeypatch, within):
    monkeypatch.setattr(connection, "CONFIGURE_WITHIN_S", within)
    client = await dial("caller=7&callee=8")
    await client.send_to(bytes_data=FRAME)
    if within:
        await client.until("configured")
    llm = {"model": "gpt-4o-mini"}
    told = {"caller": "9", "metadata": {"queue": "bikes"}, "llm_config": llm, "system_prompt": "Be brief."}
    await client.say(**CONFIGURE | told)
    await client.until("configured")
    # Others are no news of the call.
    await client.say(**CONFIGURE | {"room_id": "another", "caller": "10", "profile": "sales"})
    await client.say(command="ping", timestamp=1)
    await client.until("pong")
    await client.hang_up()
    session = await finished()
    assert (session.room_id, session.caller, session.callee) == ("room", "9", "8")
    assert session.metadata == {"queue": "bikes"}
    configs = {"system_prompt": "Be brief.", "stt": None, "llm": llm, "tts": None}
    assert session.client_configs == configs
    assert {event.kind for event in await stored_events()} <= {"configuration"}


async def test_the_profile_of_a_call_that_audio_started_stays(profile, dial, monkeypatch):
    monkeypatch.setattr(connection, "CONFIGURE_WITHIN_S", 0)
    await sync_to_async(make_profile)("sales")
    client = await dial()
    await client.send_to(bytes_data=FRAME)
    await client.until("configured")
    await client.say(**CONFIGURE, profile="sales")
    error = await client.until("error")
    expected = "expected profile 'default', with which the call has already begun, got 'sales'"
    assert (error["code"], error["message"]) == (422, expected)
    await client.until("configured")
    await client.say(**CONFIGURE, profile="sales")
    await client.until("configured")
    await client.hang_up()
    session = await finished()
    assert (session.profile_id, session.room_id) == (profile.pk, "room")
    assert len(await stored_events()) == 1


async def test_the_profile_in_force_may_be_named_late(profile, dial, monkeypatch):
    monkeypatch.setattr(connection, "CONFIGURE_WITHIN_S", 0)
    client = await dial()
    await client.send_to(bytes_data=FRAME)
    await client.until("configured")
    await client.say(**CONFIGURE, profile="default")
    await client.until("configured")
    await client.hang_up()
    assert (await finished()).room_id == "room"
    assert await stored_events() == []


async def test_what_is_said_before_configure_is_heard_within_bounds(profile, dial):
    client = await dial()
    for _ in range(8 * 50):  # 8 s
        await client.send_to(bytes_data=FRAME)
    await client.say(**CONFIGURE)
    await client.until("configured")
    await client.hang_up()
    assert (await finished()).audio_in_s == 5.0


async def test_configure_twice_at_once(profile, dial):
    """The second comes while the call is being started, and is not lost."""
    client = await dial()
    await client.say(**CONFIGURE | {"system_prompt": "Be brief."})
    await client.say(**CONFIGURE | {"system_prompt": "Be formal."})
    first, second = await client.until("configured"), await client.until("configured")
    assert first["call_id"] == second["call_id"]
    await client.hang_up()
    assert (await finished()).client_configs["system_prompt"] == "Be brief."
    (change,) = await stored_events()
    assert change.detail["system_prompt"] == "Be formal."


async def test_prompts_that_come_while_a_call_starts_are_taken_in_order(profile, dial, monkeypatch):
    """Also one that comes while an earlier one is being taken, with another still to be."""
    taking, go_on, taken, prompt = asyncio.Event(), asyncio.Event(), [], Verbs.client_prompt

    async def take(verbs, system_prompt):
        taking.set()
        await go_on.wait()
        await asyncio.sleep(0)  # others have their turn
        taken.append(system_prompt)
        await prompt(verbs, system_prompt)

    monkeypatch.setattr(Verbs, "client_prompt", take)
    client = await dial()
    prompts = [f"Be number {n}." for n in range(4)]
    for text in prompts[:3]:
        await client.say(**CONFIGURE | {"system_prompt": text})
    await asyncio.wait_for(taking.wait(), 10)
    await client.say(**CONFIGURE | {"system_prompt": prompts[3]})
    for _ in range(50):  # until it is read
        await asyncio.sleep(0)
    go_on.set()
    for _ in prompts:
        await client.until("configured")
    await client.hang_up()
    assert taken == prompts[1:]
    assert (await finished()).client_configs["system_prompt"] == prompts[0]
    assert [event.detail["system_prompt"] for event in await stored_events()] == prompts[1:]


@pytest.mark.parametrize(
    ("policy", "prompts", "changes"),
    [
        ("append", ["Be brief.", "Be brief.", None, "Be formal.", ""], ["Be formal.", ""]),
        ("replace", ["Be brief.", "Be formal."], ["Be formal."]),
        ("ignore", ["Be brief.", "Be formal.", ""], []),
    ],
)
async def test_only_a_prompt_that_changes_what_is_in_force_is_noted(profile, dial, policy, prompts, changes):
    await sync_to_async(edit_profiles)(prompt_policy=policy)
    client = await dial()
    for prompt in prompts:
        await client.say(**CONFIGURE | {"system_prompt": prompt})
        await client.until("configured")
    await client.hang_up()
    await finished()
    assert [event.detail["system_prompt"] for event in await stored_events()] == changes


async def test_a_client_that_leaves_while_its_call_starts(profile, dial):
    client = await dial()
    await client.say(**CONFIGURE)
    await client.disconnect(timeout=10)
    assert await writer.recorder().flush(10)
    statuses = await sync_to_async(lambda: set(CallSession.objects.values_list("status", flat=True)))()
    assert statuses <= {"completed"}


async def test_a_pipeline_that_hangs_is_gone_in_time_with_all_its_tasks(profile, dial, monkeypatch):
    async def hang(_service):
        await asyncio.Event().wait()

    monkeypatch.setattr(Silent, "cleanup", hang)
    monkeypatch.setattr(build, "STOP_S", 0.1)
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    await client.say(**DISCONNECT)
    assert await client.closed() == 1000
    assert (await finished()).end_reason == "disconnect"  # `dial` looks for tasks that are left


# --- Errors -----------------------------------------------------------------------------------------------


async def test_errors_that_are_told_are_stored(profile, dial):
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    await client.send_to(text_data="hello")
    await client.send_to(bytes_data=b"odd")
    await client.send_to(text_data=" " * (codec.MAX_TEXT_BYTES + 1))
    for _ in range(connection.CONFIGURES_AT_ONCE):
        await client.say(**CONFIGURE)
    told = [await client.until("error") for _ in range(4)]
    assert [error["code"] for error in told] == [400, 422, 413, 429]
    await client.hang_up()
    await finished()
    events = await stored_events()
    assert {event.kind for event in events} == {"error"}
    assert [(event.detail["code"], event.message) for event in events] == [
        (error["code"], error["message"]) for error in told
    ]


async def test_a_mistake_made_again_and_again_is_one_event_with_a_number(profile, dial, monkeypatch):
    """Its client is told within bounds, and let go when nothing else comes of it."""
    monkeypatch.setattr(mistakes, "ERRORS_PER_S", 0.0)
    monkeypatch.setattr(limits, "MISTAKES_PER_S", 0.0)
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    for n in range(limits.MISTAKES_AT_ONCE):
        await client.send_to(bytes_data=bytes(321 + 2 * (n % 50)))
        if n % 200 == 0:
            await client.say(command="ping", timestamp=n)
            await client.until("pong")
    assert await writer.recorder().flush(10)
    (event,) = await stored_events()
    assert event.detail["count"] == 512  # so far: 1, 2, 4, 8 …
    await client.send_to(bytes_data=b"odd")
    told, code = await client.rest()
    assert code == 1008
    assert len(told) <= mistakes.ERRORS_AT_ONCE
    session = await finished()
    assert (session.status, session.end_reason, session.error_count) == ("failed", "abuse", 1)
    (event,) = await stored_events()
    assert event.message == ("expected 16-bit samples, an even number of bytes, got 321 bytes (1001 times)")
    assert event.detail == {"code": 422, "count": 1001}


async def test_a_pipeline_that_ends_by_itself_ends_the_call(profile, dial):
    await sync_to_async(edit_profiles)(greeting="Hello", tts_provider="quitter")
    client = await dial()
    await client.say(**CONFIGURE)
    await client.send_to(bytes_data=FRAME)
    error = await client.until("error")
    assert (error["code"], error["message"]) == (500, "the call's pipeline ended before the call did")
    assert await client.closed() == 1011
    session = await finished()
    assert (session.status, session.error) == ("failed", error["message"])
    (event,) = await stored_events()
    assert (event.message, event.detail["code"]) == (error["message"], 500)


# --- The agent's voice ------------------------------------------------------------------------------------


async def test_the_greeting_waits_for_the_caller_s_first_audio(profile, dial):
    """RustPBX connects before its media is up: what it gets until then, nobody hears."""
    await sync_to_async(edit_profiles)(greeting="Hello")
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    for _ in range(5):  # a ping comes every 30 ms
        assert (await client.receive_json_from(timeout=10))["type"] == "ping"
    await client.send_to(bytes_data=FRAME)
    await client.until("audio")
    await client.hang_up()


async def test_a_greeting_nobody_may_hear_is_spoken_after_a_while(profile, dial, monkeypatch):
    monkeypatch.setattr(conversation, "HEARS_WITHIN_S", 0.1)
    await sync_to_async(edit_profiles)(greeting="Hello")
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("audio")
    await client.hang_up()


@pytest.mark.parametrize(("query", "kind"), [("rate=8000", "audio"), ("rate=8000&audio=binary", "voice")])
async def test_the_voice_at_8_khz(profile, dial, query, kind):
    """For telephones that play 16 kHz at half its speed."""
    await sync_to_async(edit_profiles)(greeting="Hello")
    client = await dial(query)
    await client.say(**CONFIGURE)
    await client.send_to(bytes_data=FRAME)
    frames = [await client.until(kind) for _ in range(5)]
    voice = [bytes(frame["audio_data"]) if kind == "audio" else frame["pcm"] for frame in frames]
    assert {len(pcm) for pcm in voice} == {320}
    assert {frame.get("sample_rate", 8000) for frame in frames} == {8000}
    heard = np.frombuffer(b"".join(voice), "<i2")
    assert np.abs(heard[20:-20] - 1000).max() < 100  # what was said, at another rate
    await client.hang_up()
    assert (await finished()).audio_out_s == 0.1


async def test_the_voice_as_json(profile, dial):
    await sync_to_async(edit_profiles)(greeting="Hello")
    client = await dial()
    await client.say(**CONFIGURE)
    await client.send_to(bytes_data=FRAME)
    frames = [await client.until("audio") for _ in range(5)]
    assert b"".join(bytes(frame["audio_data"]) for frame in frames) == VOICE
    assert [(frame["sample_rate"], frame["channels"]) for frame in frames] == [(16_000, 1)] * 5
    assert len({frame["frame_id"] for frame in frames}) == 5
    assert all(isinstance(frame["frame_id"], str) for frame in frames)
    await client.hang_up()
    assert (await finished()).audio_out_s == 0.1


async def test_the_voice_as_binary(profile, dial):
    await sync_to_async(edit_profiles)(greeting="Hello")
    client = await dial("audio=binary")
    await client.say(**CONFIGURE)
    await client.send_to(bytes_data=FRAME)
    frames = [(await client.until("voice"))["pcm"] for _ in range(5)]
    assert {len(frame) for frame in frames} == {640}
    assert b"".join(frames) == VOICE


# --- Ending -----------------------------------------------------------------------------------------------


async def test_a_client_that_sends_no_audio_is_let_go(profile, dial, monkeypatch):
    """Whatever else it sends."""
    monkeypatch.setattr(idle, "NO_AUDIO_S", 0.5)
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    for _ in range(4):
        await client.say(command="ping", timestamp=1)
        await client.until("pong")
    assert await client.closed() == 1000
    session = await finished()
    assert (session.end_reason, session.status, session.error) == ("idle", "completed", "")


async def test_a_call_whose_audio_stops_ended_with_its_last_frame(profile, dial, settings):
    """RustPBX says nothing of a hang-up and goes on to ping: that is no life."""
    settings.AUDIO_STOPPED_SECONDS = 1
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    loop = asyncio.get_running_loop()
    for _ in range(25):  # half a second
        await client.send_to(bytes_data=FRAME)
        await asyncio.sleep(0.02)
    stopped = loop.time()

    async def go_on_pinging():
        while True:
            await client.say(command="ping", timestamp=1)
            await asyncio.sleep(0.1)

    pinging = asyncio.create_task(go_on_pinging())
    assert await client.closed() == 1000
    pinging.cancel()
    assert loop.time() - stopped >= 0.9
    session = await finished()
    assert (session.end_reason, session.status, session.error) == ("audio_ended", "completed", "")
    assert session.audio_in_s == 0.5
    assert session.duration.total_seconds() == pytest.approx(0.5, abs=0.4)


async def test_what_is_known_of_a_call_is_noted_while_it_goes_on(profile, dial, monkeypatch):
    monkeypatch.setattr("calls.conversation.call.PROGRESS_S", 0.05)
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    for _ in range(30):
        await client.send_to(bytes_data=FRAME)
    async with asyncio.timeout(10):
        while not (session := await finished()).audio_in_s:  # noqa: ASYNC110  it is noted, and nobody told
            await asyncio.sleep(0.02)
    assert (session.status, session.audio_in_s, session.client_generation) == ("active", 0.6, "free")
    assert 0 <= (session.last_audio_at - session.started_at).total_seconds() < 10
    await client.hang_up()


async def test_what_a_call_is_doing_when_it_ends_is_waited_for(profile, dial, monkeypatch):
    begun, left = asyncio.Event(), asyncio.Event()

    async def speak_and_take_leave(_conversation, _text):
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            left.set()

    monkeypatch.setattr(build.Conversation, "say", speak_and_take_leave)
    await sync_to_async(edit_profiles)(greeting="Hello")
    client = await dial()
    await client.say(**CONFIGURE)
    await client.send_to(bytes_data=FRAME)
    await asyncio.wait_for(begun.wait(), 10)
    await client.hang_up()
    assert left.is_set()


@pytest.mark.parametrize("voice", ["test", "dead"])
async def test_the_farewell_is_spoken_to_its_end(profile, dial, voice):
    """With the embedded voice if the call's own is out of service."""
    fields = {"max_duration_s": 0, "farewell": "Goodbye!", "tts_provider": voice}
    await sync_to_async(edit_profiles)(**fields)
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("audio")
    assert await client.closed() == 1000
    session = await finished()
    assert (session.end_reason, session.status) == ("max_duration", "completed")
    if voice == "dead":
        assert session.audio_out_s > 0.3
        assert [turn.text async for turn in session.turns.all()] == ["Goodbye!"]
    else:
        assert session.audio_out_s == 0.1


async def test_shutdown_ends_every_call_and_stores_it(profile, dial):
    talking, waiting = await dial(), await dial()
    await talking.say(**CONFIGURE)
    await talking.until("configured")
    await registry.shutdown()
    assert (await talking.closed(), await waiting.closed()) == (1001, 1001)
    session = await finished()
    assert (session.end_reason, session.status) == ("shutdown", "interrupted")


async def test_a_process_that_ends_has_the_farewell_spoken(profile, dial):
    await sync_to_async(edit_profiles)(farewell="Goodbye!")
    talking, waiting = await dial(), await dial()
    await talking.say(**CONFIGURE)
    await talking.until("configured")
    assert not await registry.ended(0.1)
    draining = asyncio.create_task(registry.say_goodbye())
    assert (await talking.closed(), await waiting.closed()) == (1001, 1001)
    await draining
    session = await finished()
    assert (session.end_reason, session.status, session.audio_out_s) == ("drained", "completed", 0.1)
    assert registry.live == set()


async def test_draining_waits_no_longer_than_the_calls_last(profile, dial):
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    draining = asyncio.create_task(registry.ended(600))
    await client.say(**DISCONNECT)
    assert await client.closed() == 1000
    assert await asyncio.wait_for(draining, 10)
    assert (await finished()).end_reason == "disconnect"


async def test_a_farewell_that_is_cut_off_is_stored_as_far_as_it_was_spoken(profile, dial, caplog):
    await sync_to_async(edit_profiles)(farewell="Goodbye!", tts_provider="talker")
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    draining = asyncio.create_task(registry.say_goodbye())
    await client.until("audio")
    draining.cancel()
    await registry.shutdown()
    assert await client.closed() == 1001
    session = await finished()
    assert (session.end_reason, session.status) == ("shutdown", "interrupted")
    assert 0 < session.audio_out_s < 5
    assert "did not stop within" not in caplog.text
    (farewell,) = [turn async for turn in session.turns.all()]
    assert (farewell.text, farewell.final) == ("Goodbye!", True)
    assert farewell.end_ms is not None


async def test_the_pipeline_stops_while_the_socket_closes(profile, dial, monkeypatch):
    """The client gets its last message and the close code, however long the server takes to send them."""
    stopped, cleanup = asyncio.Event(), Silent.cleanup

    async def stop(service):
        await cleanup(service)
        stopped.set()

    async def application(scope, receive, send):
        async def send_when_stopped(event):
            if event["type"] == "websocket.close":
                await stopped.wait()
            await send(event)

        await rustpbx(scope, receive, send_when_stopped)

    monkeypatch.setattr(Silent, "cleanup", stop)
    client = await dial(application=application)
    await client.say(**CONFIGURE)
    await client.until("configured")
    await client.say(command="ping", timestamp=9)
    await client.say(**DISCONNECT)
    assert (await client.until("pong"))["timestamp"] == 9
    assert await client.closed() == 1000
    assert (await finished()).end_reason == "disconnect"


async def test_shutdown_waits_for_a_call_that_is_ending(profile, dial, monkeypatch):
    """It must not cut short what stores the call."""
    ending, end = asyncio.Event(), Call.end

    async def tell_and_end(*args):
        ending.set()
        await end(*args)

    monkeypatch.setattr(Call, "end", tell_and_end)
    client = await dial()
    await client.say(**CONFIGURE)
    await client.until("configured")
    await client.send_input({"type": "websocket.disconnect", "code": 1006})
    await asyncio.wait_for(ending.wait(), 10)
    await registry.shutdown()
    await client.wait(10)
    session = await finished()
    assert (session.end_reason, session.status) == ("closed", "completed")


async def test_a_stranger_is_refused_before_the_upgrade(profile, dial):
    client = Client("", rustpbx)
    client.scope["client"] = ["203.0.113.9", 4711]
    accepted, code = await client.connect(timeout=10)
    assert (accepted, code) == (False, 1008)
    await client.wait(10)
