"""Building calls: none holds up the event loop, and none leaves anything behind."""

import asyncio
import gc
import os
import ssl
import threading
import time
import weakref
from contextlib import contextmanager

import pytest

from calls import events
from calls.pipeline import build as building
from calls.pipeline.build import build
from calls.profiles.in_force import CallConfig, Provider
from calls.providers import accounts, catalogue, clients
from calls.providers.accounts import Account
from tests.cloud import cartesia, openai

CALLS = 200
AT_ONCE = 20


@pytest.fixture
async def warm():
    """Everything is loaded as a server has it; closed at the end."""
    await building.warm()
    yield
    await catalogue.close()


@pytest.fixture
async def cloud(settings, authority):
    """Cloud providers behind TLS, which the settings point to."""
    tls = authority.server()
    stt, llm, tts = (
        cartesia.SpeechToText(tls=tls),
        openai.ChatCompletions("Yes.", tls=tls),
        cartesia.TextToSpeech(tls),
    )
    async with stt.running() as stt_url, llm.running() as llm_url, tts.running() as tts_url:
        settings.CARTESIA_API_KEY, settings.OPENAI_API_KEY = cartesia.KEY, openai.KEY
        settings.CARTESIA_STT_URL, settings.CARTESIA_TTS_URL = stt_url, tts_url
        settings.OPENAI_BASE_URL = llm_url
        yield stt, llm, tts


def authorities_s():
    """What it takes of the processor to read the authorities that TLS trusts, in s."""
    began = time.thread_time()
    ssl.create_default_context()
    return time.thread_time() - began


@contextmanager
def longest_step(monkeypatch):
    """A list whose item is the longest step of the event loop so far, in s of the processor."""
    longest = [0.0]
    run = asyncio.Handle._run

    def timed(handle):
        began = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - began)

    gc.collect()
    gc.disable()  # a pause of the collector is no step's own
    with monkeypatch.context() as patch:
        patch.setattr(asyncio.Handle, "_run", timed)
        yield longest
    gc.enable()


def conversation(*names, prompt="Be brief.", emit=lambda _event: None):
    """A call's pipeline, of the providers of these names, or of one name for all three kinds."""
    stt, llm, tts = map(Provider, names if len(names) == 3 else names * 3)
    config = CallConfig(prompt, "", "", "", "en", stt=stt, llm=llm, tts=tts)

    async def send_audio(_pcm):
        """Nobody listens."""

    return build(config, system_prompt=prompt, send_audio=send_audio, emit=emit, started=time.monotonic())


async def started(*names):
    """A call whose services have been set up: they have connected."""
    made = conversation(*names)
    ready = asyncio.Event()
    made.worker.add_event_handler("on_pipeline_started", lambda *_: ready.set())
    made.start(ready.set)
    await asyncio.wait_for(ready.wait(), 30)
    assert not made.task.done()
    return made


@pytest.mark.parametrize("names", [("local",), ("cartesia", "openai", "cartesia")], ids=["embedded", "cloud"])
async def test_building_a_call_does_not_hold_up_the_event_loop(warm, cloud, monkeypatch, names):
    """No step takes half of what one reading of TLS's authorities does, which is 20 ms and more."""
    allowed = min(authorities_s() for _ in range(3)) / 2

    async def in_a_step():
        return conversation(*names)

    await (await started(*names)).stop()  # what is done once has been done
    with longest_step(monkeypatch) as longest:
        for _ in range(5):
            await asyncio.create_task(in_a_step())
            await (await started(*names)).stop()
    assert longest[0] < allowed


def test_every_provider_is_built_above():
    assert {p.name for p in catalogue.PROVIDERS} == {"local", "cartesia", "openai"}


async def test_calls_leave_nothing_behind(warm, cloud):
    """Of 200 calls no task and no pipeline is left; threads and descriptors are as few as before.

    A connection of the last calls may still be closing, and threads that all calls share may come up to their
    number: one call in twenty that left one would be seen.
    """
    complaints, made = [], weakref.WeakSet()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def one(names):
        call = await started(*names)
        made.add(call.worker)
        call.hear(bytes(6400))
        await call.stop()

    async def some(count):
        kinds = (("local",), ("cartesia", "openai", "cartesia"))
        await asyncio.gather(*(one(kinds[number % 2]) for number in range(count)))

    def left():
        gc.collect()
        return len(asyncio.all_tasks()), threading.active_count(), len(os.listdir("/proc/self/fd"))

    await some(AT_ONCE)
    before = left()
    for _ in range(CALLS // AT_ONCE):
        await some(AT_ONCE)
    tasks, threads, descriptors = left()
    assert tasks <= before[0]
    assert threads < before[1] + CALLS // 20
    assert descriptors < before[2] + CALLS // 20
    assert complaints == []
    assert len(made) == 0


async def test_a_prompt_that_is_cut_is_told_at_the_start_and_when_it_changes(warm, settings):
    told, prompt = [], "Be kind. " * 600
    settings.OPENAI_API_KEY = "sk-made-up"
    call = conversation("local", prompt=prompt, emit=told.append)
    assert [(event.part, "5,400" in event.message) for event in told] == [("llm", True)]
    await call.prompt(prompt * 2)
    assert [type(event) for event in told] == [events.Shortened] * 2
    await call.prompt("Be kind.")
    conversation("local", "openai", "local", prompt=prompt, emit=told.append)
    assert len(told) == 2
    conversation("local", "nobody", "local", prompt=prompt, emit=told.append)  # the embedded one stands in
    assert len(told) == 3


async def test_a_changed_key_is_in_force_with_the_next_call(cloud, monkeypatch):
    """On the connections there are; a running call keeps the key it began with."""
    monkeypatch.setattr(accounts, "_stored", {"openai": Account("sk-one")})
    first = catalogue.create("llm", "openai", {}, language="en")
    monkeypatch.setattr(accounts, "_stored", {"openai": Account("sk-two")})
    second = catalogue.create("llm", "openai", {}, language="en")
    for service in (first, second, first):
        with pytest.raises(Exception, match="401"):
            await service._client.chat.completions.create(model="m", messages=[])
    _stt, llm, _tts = cloud
    keys = [request.headers["Authorization"] for request in llm.requests]
    assert keys == ["Bearer sk-one", "Bearer sk-two", "Bearer sk-one"]
    assert first._client._client is second._client._client
    await catalogue.close()
    assert first._client.is_closed()


async def test_a_closed_client_is_followed_by_another():
    one = clients.cloud.get()
    assert clients.cloud.get() is one
    await clients.cloud.close()
    await clients.cloud.close()
    assert one.is_closed
    assert not clients.cloud.get().is_closed
    await clients.cloud.close()
