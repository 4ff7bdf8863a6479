"""Cloud providers that fail in mid-call: what RustPBX is told, what the caller hears, what is stored.

Real calls through Cartesia's and OpenAI's services to local servers with faults. As a fault is a server's,
calls at the same time have servers and a server process of their own; every test looks at one of the calls.
"""

import asyncio
import json
import shutil
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import pytest
import pytest_asyncio

from calls.simulator.call import run_call
from calls.simulator.outcome import CallReport
from calls.simulator.script import Say, Send, Wait, WaitForAgent
from calls.simulator.words import word_error_rate
from tests.cloud import cartesia, openai
from tests.cloud.voice import speak
from tests.e2e.server import AgentServer
from tests.e2e.speech import RATE, recognise, say

GREETING = "Good morning, how can I help you?"
QUESTION = "I would like to order two large pizzas."
REPLY = "Your order will be ready in an hour."
APOLOGY = "Sorry, something went wrong."
PROFILE = {"slug": "default", "is_default": True, "greeting": GREETING, "apology": APOLOGY}

SERVICES = ["stt", "llm", "tts"]
REFUSED = {"401": 401, "429": 429, "500": 500}
WHY = {
    "401": "the key was refused",
    "429": "too many requests, or the account's credit is used up",
    "500": "the provider failed on its side",
}
FAULTS = [*REFUSED, "dropped"]
FAILURES = list(product(SERVICES, FAULTS))
CALLS = [("llm", "none"), *product(SERVICES, ["slow", *FAULTS])]  # "none" goes well, and is the first
AT_ONCE = 4
# A connection refused with 401 is given up for the rest of the call.
FOR_GOOD = {("stt", "401"), ("tts", "401")}
# The words that were shown before it broke off count as said: they are answered, with no apology.
WORDS_KEPT = ("stt", "dropped")
# The pieces of an answer that come before it breaks off: an interim transcript, two words, 0.3 s of speech.
MID_SENTENCE = {"stt": 1, "llm": 2, "tts": 3}
BREAKS_OFF_S = 3  # a voice that stops without a word is given so long to go on
PING = {"command": "ping", "timestamp": 77}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@dataclass
class Cloud:
    """A server process and the providers it was told of."""

    agent: AgentServer
    stt: cartesia.SpeechToText
    llm: openai.ChatCompletions
    tts: cartesia.TextToSpeech

    async def call(self, service, fault):
        """Make a call in which `service` fails as the caller begins to speak, until RustPBX hears of it."""
        server = getattr(self, service)
        self.stt.texts = deque([QUESTION] * 10)
        asked = []

        def follow(event):
            if event.kind == "caller_says":
                asked.append(event.ms)
                if len(asked) == 1:
                    self.fail(service, fault)
            elif event.kind == "error" and (service, fault) not in FOR_GOOD:
                server.faults.recover()

        pause = BREAKS_OFF_S + 1 if (service, fault) == ("tts", "dropped") else 1
        script = [WaitForAgent(0.2), Say(say(QUESTION)), WaitForAgent(pause, timeout_s=20)]
        if fault in FAULTS:
            script += [Say(say(QUESTION)), WaitForAgent(0.5, timeout_s=20), Send(PING), Wait(0.2)]
        report = await run_call(
            script, url=self.agent.url, room_id=room(service, fault), on_event=follow, timeout_s=90
        )
        server.faults.recover()
        return report

    def fail(self, service, fault):
        """Switch a fault on."""
        server = getattr(self, service)
        if fault == "slow":
            server.faults.slow(2)
        elif fault == "dropped":
            server.faults.drop_after(MID_SENTENCE[service])
        elif fault in REFUSED:
            server.faults.status(REFUSED[fault])
            if service != "llm":  # the others refuse connections, and have one open
                server.drop_all()


@dataclass
class Made:
    """A call that was made."""

    cloud: Cloud
    report: CallReport
    room: str

    @cached_property
    def heard(self):
        """What the agent said, recognised back."""
        return recognise(self.report.reply)

    async def stored(self):
        """The call's row, its turns as (speaker, text) and its provider failures, by service."""
        agent = self.cloud.agent
        session = await agent.finished(self.room)
        turns = [(turn["speaker"], turn["text"]) for turn in agent.turns(self.room)]
        kinds = [(event["kind"], event["provider"].partition("/")[0]) for event in agent.events(self.room)]
        return session, turns, [provider for kind, provider in kinds if kind == "provider_failure"]


def room(service, fault):
    return f"{service}-{fault}"


@asynccontextmanager
async def cloud(folder):
    """Providers that work, and a server process that uses them."""
    stt, llm, tts = cartesia.SpeechToText(), openai.ChatCompletions(REPLY), cartesia.TextToSpeech()
    async with stt.running() as stt_url, llm.running() as llm_url, tts.running() as tts_url:
        keys = {"CARTESIA_API_KEY": cartesia.KEY, "OPENAI_API_KEY": openai.KEY}
        urls = {"CARTESIA_STT_URL": stt_url, "CARTESIA_TTS_URL": tts_url, "OPENAI_BASE_URL": llm_url}
        agent = AgentServer(folder, **keys, **urls)
        await asyncio.to_thread(agent.start)
        try:
            yield Cloud(agent, stt, llm, tts)
        finally:
            await asyncio.to_thread(agent.stop)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calls(tmp_path_factory):
    """Every call, by service and fault."""
    for text in (GREETING, REPLY, APOLOGY, "Your order"):  # no answer is to wait for the servers' own voice
        speak(text, RATE)
        speak(f"{text} ", RATE)
    made = {}
    prepared = tmp_path_factory.mktemp("prepared")
    preparing = AgentServer(prepared)
    preparing.python("manage.py", "migrate", "--verbosity", "0")
    preparing.python("-m", "tests.e2e.make_profiles", json.dumps([PROFILE]))

    async def make_calls(number):
        folder = tmp_path_factory.mktemp("node")
        shutil.copytree(prepared, folder, dirs_exist_ok=True)
        async with cloud(folder) as providers:
            for service, fault in CALLS[number::AT_ONCE]:
                report = await providers.call(service, fault)
                made[service, fault] = Made(providers, report, room(service, fault))

    await asyncio.gather(*map(make_calls, range(AT_ONCE)))
    return made


async def test_a_call_through_the_cloud(calls):
    call = calls["llm", "none"]
    assert call.report.failure is None
    assert call.report.of("error") == call.report.dropped == call.report.in_vain == []
    assert word_error_rate(f"{GREETING} {REPLY}", call.heard) <= 0.2
    heard = bytes(call.cloud.stt.sessions[0].audio)
    assert word_error_rate(QUESTION, recognise(heard)) <= 0.2
    session, turns, failures = await call.stored()
    assert turns == [("agent", GREETING), ("caller", QUESTION), ("agent", REPLY)]
    assert (session["status"], session["error"], failures) == ("completed", "", [])


@pytest.mark.parametrize("service", SERVICES)
async def test_a_slow_provider_is_waited_for(calls, service):
    call = calls[service, "slow"]
    assert call.report.of("error") == call.report.in_vain == []
    if service == "stt":  # it is slow to begin, while the caller speaks
        first = next(each.ms for each in call.report.messages if each.message["type"] == "transcription")
        assert first - call.report.caller_speech[0][0] * 1000 >= 2000
    else:
        assert call.report.reply_latencies_ms[0] >= 2000
    _session, turns, failures = await call.stored()
    assert turns == [("agent", GREETING), ("caller", QUESTION), ("agent", REPLY)]
    assert failures == []


@pytest.mark.parametrize(("service", "fault"), FAILURES)
async def test_rustpbx_is_told(calls, service, fault):
    errors = calls[service, fault].report.of("error")
    assert errors
    assert {error["code"] for error in errors} == {502}
    assert {error["message"].split(":")[0] for error in errors} == {service}
    if fault in REFUSED:
        assert errors[0]["message"].startswith(f"{service}: {WHY[fault]} (HTTP {fault})")


@pytest.mark.parametrize(("service", "fault"), FAILURES)
async def test_the_caller_hears_the_apology(calls, service, fault):
    """In the embedded voice if it is the call's own that failed."""
    apologised = "went wrong" in calls[service, fault].heard
    assert apologised is ((service, fault) != WORDS_KEPT)


async def test_words_that_were_shown_before_it_broke_off_are_answered(calls):
    _session, turns, _failures = await calls[WORDS_KEPT].stored()
    caller = [text for speaker, text in turns if speaker == "caller"]
    assert QUESTION.startswith(caller[0])
    assert turns[turns.index(("caller", caller[0])) + 1] == ("agent", REPLY)


@pytest.mark.parametrize(("service", "fault"), FAILURES)
async def test_the_call_goes_on(calls, service, fault):
    """The next question is answered: with the reply, or, if the service is gone for good, an apology."""
    call = calls[service, fault]
    assert call.report.failure.startswith("the server reported error 502: ")  # and nothing worse
    assert call.report.in_vain == []
    assert [pong["timestamp"] for pong in call.report.of("pong")][-1] == PING["timestamp"]
    answer = REPLY if (service, fault) not in FOR_GOOD else APOLOGY
    assert call.report.talkspurts[-1].start > call.report.caller_speech[1][1]
    last_words = call.heard.split()[-len(answer.split()) :]
    assert word_error_rate(answer, " ".join(last_words)) <= 0.2
    session, turns, _failures = await call.stored()
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    assert turns[-1] == ("agent", answer)
    if service != "stt":
        assert turns.count(("caller", QUESTION)) == 2


@pytest.mark.parametrize(("service", "fault"), FAILURES)
async def test_the_failure_is_stored(calls, service, fault):
    session, _turns, failures = await calls[service, fault].stored()
    assert set(failures) == {service}
    assert len(failures) == len(calls[service, fault].report.of("error"))
    made = calls[service, fault]
    severities = [event["severity"] for event in made.cloud.agent.events(made.room)]
    assert session["error_count"] == severities.count("error")
    if (service, fault) != ("stt", "dropped"):  # the words that were shown serve: a warning
        assert session["error_count"] > 0
