"""The embedded language model: it answers, streams, can be interrupted and never outgrows its context."""

import asyncio
from pathlib import Path

import httpx
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    LLMUpdateSettingsFrame,
    MetricsFrame,
)
from pipecat.metrics.metrics import LLMUsageMetricsData, TTFBMetricsData
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.openai.base_llm import OpenAILLMSettings

from calls.providers import catalogue
from calls.providers.frames import PromptCutFrame, ReplyCutFrame
from calls.providers.local import llm, llm_server
from tests.provider_harness import HANG_SECONDS, running

RECEPTIONIST = "You are the receptionist of a hotel. Answer in one short sentence."
LONG = "Write a very long story about a ship on the sea."


@pytest.fixture(autouse=True)
async def server(settings):
    settings.LOCAL_LLM_SLOTS = 2
    yield llm._server
    await llm.close()


def make(system=RECEPTIONIST, **settings):
    return catalogue.create(
        "llm", "local", {"temperature": 0, **settings}, language="en", system_prompt=system
    )


def context(*texts):
    """A conversation: the caller and the agent in turns."""
    roles = ("user", "assistant")
    return LLMContext([{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)])


def reply(line):
    return "".join(f.text for f in line.out.of(LLMTextFrame))


def usage(line):
    return [d.value for f in line.out.of(MetricsFrame) for d in f.data if isinstance(d, LLMUsageMetricsData)]


async def ask(line, conversation, count=1):
    await line.send(LLMContextFrame(conversation))
    await line.out.first(LLMFullResponseEndFrame, count)


async def busy_slots(server):
    """How many replies the server is writing now."""
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(
            server.url.removesuffix("/v1") + "/slots", headers={"Authorization": f"Bearer {server.key}"}
        )
    return sum(slot["is_processing"] for slot in answer.raise_for_status().json())


async def until_slots(server, count):
    async with asyncio.timeout(HANG_SECONDS):
        while await busy_slots(server) != count:
            pass


async def test_a_question_is_answered():
    async with running(make("Answer the question.")) as line:
        await ask(line, context("What is the capital of France?"))
    assert "Paris" in reply(line)
    assert not line.back.of(ErrorFrame)


async def test_the_system_prompt_is_heeded():
    """The same question, two prompts: the chat template gives the model both."""
    replies = []
    for system in ("Your name is Roma. You are a restaurant.", "Your name is Tim. You sell bicycles."):
        async with running(make(system)) as line:
            await ask(line, context("What is your name?"))
        replies.append(reply(line))
    assert "Roma" in replies[0]
    assert "Tim" in replies[1]


async def test_the_reply_comes_in_pieces():
    async with running(make(max_tokens=30)) as line:
        await ask(line, context(LONG))
        order = line.out.of(LLMFullResponseStartFrame, LLMTextFrame, LLMFullResponseEndFrame)
    assert isinstance(order[0], LLMFullResponseStartFrame)
    assert isinstance(order[-1], LLMFullResponseEndFrame)
    assert 10 < len(order) <= 32
    assert usage(line)[0].completion_tokens == 30
    ttfb = [d.value for f in line.out.of(MetricsFrame) for d in f.data if isinstance(d, TTFBMetricsData)]
    assert any(value > 0 for value in ttfb)


async def test_what_was_read_once_is_not_read_again():
    async with running(make(max_tokens=10)) as line:
        await ask(line, context("I would like a room. " * 20))
        await ask(line, context("I would like a room. " * 20, "Yes?", "With a view."), 2)
    first, second = usage(line)
    assert first.prompt_tokens > 100
    assert second.cache_read_input_tokens > 100


async def test_the_system_prompt_is_read_ahead():
    async with running(make("You are a helpful receptionist. " * 20, max_tokens=5)) as line:
        await ask(line, context("Hello?"))
        assert usage(line)[0].cache_read_input_tokens > 100
        changed = OpenAILLMSettings(system_instruction="You are an unhelpful taxi driver. " * 20)
        await line.send(LLMUpdateSettingsFrame(delta=changed))
        await ask(line, context("Hello?"), 2)
        assert usage(line)[1].cache_read_input_tokens > 100


async def test_an_interruption_frees_the_slot(server):
    async with running(make("Answer the question.", max_tokens=512)) as line:
        await line.send(LLMContextFrame(context(LONG)))
        await line.out.first(LLMTextFrame, 3)
        assert await busy_slots(server) == 1
        await line.send(InterruptionFrame())
        await until_slots(server, 0)
        await ask(line, context("What is the capital of France?"), 2)
    assert "Paris" in reply(line)
    assert not line.back.of(ErrorFrame)


async def test_the_end_of_a_call_frees_the_slot(server):
    async with running(make(max_tokens=512)) as line:
        await line.send(LLMContextFrame(context(LONG)))
        await line.out.first(LLMTextFrame, 3)
        await line.worker.cancel()
        await until_slots(server, 0)


async def test_replies_are_written_at_the_same_time(server):
    async with running(make(max_tokens=60)) as one, running(make(max_tokens=60)) as other:
        for line in (one, other):
            await line.send(LLMContextFrame(context(LONG)))
        await until_slots(server, 2)
        for line in (one, other):
            await line.out.first(LLMFullResponseEndFrame)
    assert reply(one)
    assert reply(other)


async def test_more_replies_than_slots_wait():
    async with running(make(max_tokens=20)) as a, running(make(max_tokens=20)) as b, running(make()) as c:
        await asyncio.gather(*(ask(line, context("Hello, who is there?")) for line in (a, b, c)))
        assert all(map(reply, (a, b, c)))
        assert not any(line.back.of(ErrorFrame) for line in (a, b, c))


@pytest.fixture
def small_context(monkeypatch):
    """A context that is full soon: reading takes long on a small machine."""
    monkeypatch.setattr(llm_server, "CONTEXT_TOKENS", 256)


async def test_a_conversation_longer_than_the_context_goes_on(small_context):
    texts = [f"This is what I said as number {i}, and it was a rather long sentence." for i in range(40)]
    conversation = context(*texts, "What is the capital of France?")
    async with running(make(max_tokens=20)) as line:
        await ask(line, conversation)
        assert reply(line)
        assert usage(line)[0].prompt_tokens < 256
    assert len(conversation.get_messages()) == 41
    assert not line.back.of(ErrorFrame)


async def test_a_conversation_that_fills_the_context_is_shortened_ahead(small_context):
    texts = [f"This is what I said as number {i}." for i in range(14)]
    conversation = context(*texts, "What did you say?")
    async with running(make(max_tokens=20)) as line:
        await ask(line, conversation)
        full = usage(line)[0]
        assert full.total_tokens > 0.75 * 256
        conversation.add_message({"role": "assistant", "content": "Nothing."})
        conversation.add_message({"role": "user", "content": "I see."})
        await ask(line, conversation, 2)
        second = usage(line)[1]
        assert second.prompt_tokens < full.prompt_tokens
        assert second.cache_read_input_tokens > second.prompt_tokens / 2
    assert not line.back.of(ErrorFrame)


async def test_a_prompt_longer_than_the_context_is_cut(small_context):
    async with running(make("You are a receptionist. " * 200, max_tokens=10)) as line:
        await ask(line, context("Hello?"))
        await ask(line, context("Hello?"), 2)
        (cut,) = line.out.of(PromptCutFrame)
    assert "256 tokens" in cut.message
    assert reply(line)
    assert not line.back.of(ErrorFrame)


async def test_a_reply_that_reaches_max_tokens_says_so():
    async with running(make("Give long answers.", max_tokens=5)) as line:
        await ask(line, context("Tell me a long story."))
        assert line.out.of(ReplyCutFrame)


async def test_another_conversation_is_seen_whole_again():
    history = llm._History()
    long = [{"role": "user", "content": str(i)} for i in range(9)]
    history.shorten(long)
    assert history.fit(long) == long[5:]
    assert history.fit(long[:3]) == long[:3]


async def test_without_a_key_nobody_is_served(server):
    await llm.warm()
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(server.url + "/chat/completions", json={"messages": []})
    assert answer.status_code == 401
    assert server.url.startswith("http://127.0.0.1:")


async def test_warm_ready_close():
    assert not llm.is_ready()
    await llm.warm()
    assert llm.is_ready()
    await asyncio.wait_for(llm.close(), 2)
    await llm.close()
    assert not llm.is_ready()


async def test_close_does_not_wait_for_a_reply(server):
    async with running(make(max_tokens=512)) as line:
        await line.send(LLMContextFrame(context(LONG)))
        await line.out.first(LLMTextFrame, 3)
        await asyncio.wait_for(llm.close(), 2)
        await line.out.first(LLMFullResponseEndFrame)
    assert not server.running


def test_a_model_of_ones_own_takes_the_place_of_the_embedded_one(settings):
    settings.LOCAL_LLM_PATH = "/srv/own.gguf"
    assert llm_server.model_path() == Path("/srv/own.gguf")


async def test_a_model_of_ones_own_is_loaded(settings, tmp_path):
    """The file is a copy of the embedded one: no other ships with the product."""
    own = tmp_path / "own.gguf"
    own.symlink_to(llm_server.model_path())
    settings.LOCAL_LLM_PATH = str(own)
    await llm.warm()
    assert llm.is_ready()
