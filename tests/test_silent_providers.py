"""Providers that answer nothing, or cannot be reached: each call notices, says so, apologises and goes on.

Real calls through Cartesia's and OpenAI's services, in this process, where what is waited for can be short.
"""

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import uvicorn
from asgiref.sync import sync_to_async
from channels.routing import URLRouter

from calls.conversation import watchdog
from calls.gateway import registry
from calls.models import CallSession
from calls.pipeline import build
from calls.profiles import choosing
from calls.providers import catalogue
from calls.recorder import writer
from calls.routing import websocket_urlpatterns
from calls.simulator.call import run_call
from calls.simulator.script import Say, WaitForAgent
from calls.simulator.words import word_error_rate
from tests.cloud import cartesia, openai
from tests.cloud.voice import speak
from tests.conftest import publish_profile
from tests.e2e.speech import RATE, recognise, say

QUESTION = "I would like to order two large pizzas."
REPLY = "Your order will be ready in an hour."
APOLOGY = "Sorry, something went wrong."
DUE_S = 1.0
NOTHING_CAME = "nothing came from it within 1 s"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def profile(db):
    return publish_profile(
        "default", is_default=True, system_prompt="", apology=APOLOGY,
        stt_provider="cartesia", llm_provider="openai", tts_provider="cartesia",
        end_of_turn="silence", end_of_turn_silence_s=0.3,
    )  # fmt: skip


@pytest.fixture
async def url(profile, monkeypatch):
    """Where calls are taken; at the end nothing is left of them."""
    monkeypatch.setattr(choosing, "_remembered", {})
    monkeypatch.setattr(watchdog, "DUE_S", dict.fromkeys(catalogue.KINDS, DUE_S))
    await build.warm()  # as a server does: the first call's speech would be short if the event loop stood
    for text in (APOLOGY, REPLY, f"{REPLY} "):  # what is due is not to wait for the servers' own voice
        speak(text, RATE)
    application = URLRouter(websocket_urlpatterns)
    server = uvicorn.Server(
        uvicorn.Config(application, lifespan="off", ws="websockets-sansio", log_config=None)
    )
    with socket.create_server(("127.0.0.1", 0)) as listening:
        serving = asyncio.create_task(server.serve([listening]))
        yield f"ws://127.0.0.1:{listening.getsockname()[1]}/ws/rustpbx"
        server.should_exit = True
        await serving
    await writer.close()
    choosing.close()
    await catalogue.close()
    assert registry.live == set()


class Providers:
    """A call's providers, of which one says nothing until RustPBX has heard of it."""

    def __init__(self, silent):
        self.silent = silent
        self.stt = cartesia.SpeechToText(QUESTION, QUESTION)
        self.llm, self.tts = openai.ChatCompletions(REPLY), cartesia.TextToSpeech()
        self.configured = asyncio.Event()
        getattr(self, silent).faults.silent()

    def follow(self, event):
        if event.kind == "configured":
            self.configured.set()
        elif event.kind == "error":
            getattr(self, self.silent).faults.recover()


async def test_a_silent_provider_gets_an_apology_and_the_call_goes_on(url, settings):
    """Three calls at once; in each the first question meets the silence, the second is answered."""
    settings.CARTESIA_API_KEY, settings.OPENAI_API_KEY = cartesia.KEY, openai.KEY
    question = say(QUESTION)[RATE:]  # without the half second before its first word
    script = [Say(question), WaitForAgent(0.5, 20), Say(question), WaitForAgent(0.5, 20)]
    calls = {}
    async with AsyncExitStack() as running:
        for kind in catalogue.KINDS:
            providers = Providers(kind)
            settings.CARTESIA_STT_URL = await running.enter_async_context(providers.stt.running())
            settings.OPENAI_BASE_URL = await running.enter_async_context(providers.llm.running())
            settings.CARTESIA_TTS_URL = await running.enter_async_context(providers.tts.running())
            calling = run_call(script, url=url, room_id=kind, on_event=providers.follow)
            calls[providers] = asyncio.create_task(calling)
            await asyncio.wait_for(providers.configured.wait(), 10)  # the next call has providers of its own
        await asyncio.gather(*calls.values())
        await asyncio.gather(*(one.life.closed.wait() for one in list(registry.live)))
        assert await writer.recorder().flush(10)
    for providers, calling in calls.items():
        check_told(providers.silent, calling.result())
        await check_stored(providers.silent)
        # Nobody waits any longer for what was given up.
        assert len(providers.llm.hang_ups) == (providers.silent == "llm")


def check_told(silent, report):
    assert report.failure == f"the server reported error 502: {silent}: {NOTHING_CAME}"
    assert report.in_vain == []
    (error,) = [each for each in report.messages if each.message["type"] == "error"]
    assert (error.message["code"], error.message["message"]) == (502, f"{silent}: {NOTHING_CAME}")
    assert error.ms >= (report.caller_speech[0][1] + DUE_S) * 1000
    assert word_error_rate(f"{APOLOGY} {REPLY}", recognise(report.reply)) <= 0.2


@sync_to_async
def check_stored(silent):
    session = CallSession.objects.get(room_id=silent)
    assert (session.status, session.end_reason) == ("completed", "disconnect")
    assert (session.error, session.error_count) == ("", 1)
    (event,) = session.events.values_list("kind", "message", "provider")
    wanted = "openai" if silent == "llm" else "cartesia"
    assert event == ("provider_failure", NOTHING_CAME, f"{silent}/{wanted}")
    turns = [("caller", QUESTION), ("agent", APOLOGY), ("caller", QUESTION), ("agent", REPLY)]
    if silent == "stt":
        del turns[0]  # was not heard
    assert list(session.turns.values_list("speaker", "text")) == turns


async def test_a_reply_that_is_cut_ends_with_a_sentence_and_says_so(url, settings):
    """What RustPBX is told, what is stored, and no error."""
    settings.CARTESIA_API_KEY, settings.OPENAI_API_KEY = cartesia.KEY, openai.KEY
    stt, tts = cartesia.SpeechToText(QUESTION), cartesia.TextToSpeech()
    llm = openai.ChatCompletions([f"{REPLY} You may \ud83d", "\ude00 come and", "length"])
    async with stt.running() as stt_url, llm.running() as llm_url, tts.running() as tts_url:
        settings.CARTESIA_STT_URL, settings.OPENAI_BASE_URL, settings.CARTESIA_TTS_URL = (
            stt_url, llm_url, tts_url,
        )  # fmt: skip
        report = await run_call([Say(say(QUESTION)[RATE:]), WaitForAgent(0.5, 20)], url=url, room_id="cut")
        await asyncio.gather(*(one.life.closed.wait() for one in list(registry.live)))
        assert await writer.recorder().flush(10)
    assert report.failure is None
    assert [(each["text"], each["is_complete"]) for each in report.of("llm_response")] == [
        (REPLY, False),
        (REPLY, True),
    ]

    @sync_to_async
    def stored():
        session = CallSession.objects.get(room_id="cut")
        (event,) = session.events.values_list("kind", "severity", "provider")
        return session.error_count, event, list(session.turns.values_list("speaker", "text"))

    turns = [("caller", QUESTION), ("agent", REPLY)]
    assert await stored() == (0, ("shortened", "warning", "llm/openai"), turns)


WHY = {
    "dns": "its address cannot be found: DNS has no answer",
    "refused": "the connection was refused: nothing listens there",
    "expired": "its TLS certificate has expired",
}
ADDRESSES = {"stt": "CARTESIA_STT_URL", "llm": "OPENAI_BASE_URL", "tts": "CARTESIA_TTS_URL"}
SCHEMES = {"stt": "ws", "llm": "http", "tts": "ws"}
PATHS = {"stt": "", "llm": "/v1", "tts": "/tts/websocket"}


@asynccontextmanager
async def unreachable(kind, fault, tls):
    """Where a provider would be that cannot be reached for this reason."""
    if fault == "expired":
        servers = {"stt": cartesia.SpeechToText(tls=tls), "llm": openai.ChatCompletions(REPLY, tls=tls)}
        async with (servers.get(kind) or cartesia.TextToSpeech(tls)).running() as address:
            yield address
        return
    host = "nowhere.invalid"
    if fault == "refused":
        with socket.create_server(("127.0.0.1", 0)) as closed_soon:
            host = f"127.0.0.1:{closed_soon.getsockname()[1]}"
    yield f"{SCHEMES[kind]}://{host}{PATHS[kind]}"


@pytest.mark.parametrize("fault", WHY)
async def test_an_unreachable_provider_is_named_and_the_call_goes_on(authority, url, settings, caplog, fault):
    """Three calls, in each of which one provider cannot be reached and the other two work."""
    settings.CARTESIA_API_KEY, settings.OPENAI_API_KEY = cartesia.KEY, openai.KEY
    tls = authority.server(expired=True)
    question = say(QUESTION)[RATE:]
    script = [Say(question), WaitForAgent(0.5, 20), Say(question), WaitForAgent(0.5, 20)]
    calls = {}
    async with AsyncExitStack() as running:
        for kind in catalogue.KINDS:
            stt, llm = cartesia.SpeechToText(QUESTION, QUESTION), openai.ChatCompletions(REPLY)
            settings.CARTESIA_STT_URL = await running.enter_async_context(stt.running())
            settings.OPENAI_BASE_URL = await running.enter_async_context(llm.running())
            settings.CARTESIA_TTS_URL = await running.enter_async_context(cartesia.TextToSpeech().running())
            address = await running.enter_async_context(unreachable(kind, fault, tls))
            setattr(settings, ADDRESSES[kind], address)
            configured = asyncio.Event()

            def follow(event, configured=configured):
                if event.kind == "configured":
                    configured.set()

            room = f"{kind}-{fault}"
            calling = run_call(script, url=url, room_id=room, on_event=follow)
            calls[kind] = asyncio.create_task(calling)
            await asyncio.wait_for(configured.wait(), 10)  # the next call has providers of its own
        await asyncio.gather(*calls.values())
        await asyncio.gather(*(one.life.closed.wait() for one in list(registry.live)))
        assert await writer.recorder().flush(10)
    for kind, calling in calls.items():
        report, told = calling.result(), f"{kind}: {WHY[fault]} ("
        assert report.in_vain == []
        assert [e["code"] for e in report.of("error") if e["message"].startswith(told)][:1] == [502]
        assert report.talkspurts
        await check_stored_failure(kind, fault)
        assert any(told in record.getMessage() for record in caplog.records)


@sync_to_async
def check_stored_failure(kind, fault):
    session = CallSession.objects.get(room_id=f"{kind}-{fault}")
    assert (session.status, session.end_reason) == ("completed", "disconnect")
    wanted = f"{kind}/{'openai' if kind == 'llm' else 'cartesia'}"
    failures = session.events.filter(kind="provider_failure", provider=wanted)
    assert any(event.message.startswith(f"{WHY[fault]} (") for event in failures)
    # Perhaps the caller spoke into it: the failure shows when the call begins.
    assert any(APOLOGY.startswith(turn.text) for turn in session.turns.filter(speaker="agent"))
