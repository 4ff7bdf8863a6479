"""Cloud providers that fail in mid-call: what RustPBX is told, what the caller hears, what is stored.

Real calls through Cartesia's and OpenAI's services to local servers with faults. Several calls run at once,
each with local servers of its own, as a fault affects a whole server. Every test looks at one call.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
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
AT_ONCE = 8
FAILURES = list(product(SERVICES, FAULTS))
COLD = ("tts", "cold")  # refused from the start, when the embedded voice is not loaded yet
CALLS = [COLD, ("llm", "none"), *product(SERVICES, ["slow", *FAULTS])]  # "none" goes well
# A connection refused with 401 is given up for the rest of the call.
FOR_GOOD = {("stt", "401"), ("tts", "401")}
# The words that were shown before it broke off count as said: they are answered, with no apology.
WORDS_KEPT = ("stt", "dropped")
# The pieces of an answer that come before it breaks off: an interim transcript, two words, 0.3 s of speech.
MID_SENTENCE = {"stt": 1, "llm": 2, "tts": 3}
BREAKS_OFF_S = 3  # a voice that stops without a word is given so long to go on
# Accounts of which only the address changes, from call to call.
ACCOUNTS = f"""
from calls.models import ProviderAccount as Account
Account.objects.create(provider="cartesia", key={cartesia.KEY!r})
Account.objects.create(provider="openai", key={openai.KEY!r})
"""
PING = {"command": "ping", "timestamp": 77}

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]


@dataclass
class Call:
    """A call and its providers, of which `service` fails."""

    agent: AgentServer
    service: str
    fault: str
    stt: cartesia.SpeechToText = field(default_factory=lambda: cartesia.SpeechToText(*[QUESTION] * 10))
    llm: openai.ChatCompletions = field(default_factory=lambda: openai.ChatCompletions(REPLY))
    tts: cartesia.TextToSpeech = field(default_factory=cartesia.TextToSpeech)
    configured: asyncio.Event = field(default_factory=asyncio.Event)
    has_failed: bool = False
    report: CallReport | None = None

    async def run(self):
        """Make the call."""
        pause = BREAKS_OFF_S + 1 if (self.service, self.fault) == ("tts", "dropped") else 1
        script = [WaitForAgent(0.2), Say(say(QUESTION)), WaitForAgent(pause, timeout_s=20)]
        if self.fault in FAULTS:
            script += [Say(say(QUESTION)), WaitForAgent(0.5, timeout_s=20), Send(PING), Wait(0.2)]
        if self.is_refused_while_idle:
            script[1:1] = [Wait(0), WaitForAgent(2)]
        elif self.fault == "cold":
            script = [WaitForAgent(0.5)]
            self.tts.faults.status(401)
        self.report = await run_call(
            script, url=self.agent.url, room_id=self.room, on_event=self.follow, timeout_s=90
        )

    @property
    def is_refused_while_idle(self):
        """Whether the apology comes at once. The caller is silent then, as speech would cut it off."""
        return self.service == "tts" and self.fault in REFUSED

    def follow(self, event):
        """Switch the fault on when the caller begins to speak or to wait, off when RustPBX hears of it."""
        if event.kind == "configured":
            self.configured.set()
        elif event.kind in ("caller_says", "caller_waits") and not self.has_failed:
            self.has_failed = True
            self.fail()
        elif event.kind == "error" and (self.service, self.fault) not in FOR_GOOD:
            getattr(self, self.service).faults.recover()

    def fail(self):
        """Switch a fault on."""
        server = getattr(self, self.service)
        if self.fault == "slow":
            server.faults.slow(2)
        elif self.fault == "dropped":
            server.faults.drop_after(MID_SENTENCE[self.service])
        elif self.fault in REFUSED:
            server.faults.status(REFUSED[self.fault])
            if self.service != "llm":  # the others refuse connections, and have one open
                server.drop_all()

    @property
    def room(self):
        return f"{self.service}-{self.fault}"

    @cached_property
    def heard(self):
        """What the agent said, recognised back."""
        return recognise(self.report.reply)

    async def stored(self):
        """The call's row, its turns as (speaker, text) and its provider failures, by service."""
        session = await self.agent.finished(self.room)
        turns = [(turn["speaker"], turn["text"]) for turn in self.agent.turns(self.room)]
        events = self.agent.events(self.room)
        kinds = [(event["kind"], event["provider"].partition("/")[0]) for event in events]
        return session, turns, [provider for kind, provider in kinds if kind == "provider_failure"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def calls(tmp_path_factory):
    """Every call, by service and fault: all on one server, AT_ONCE at the same time."""
    for text in (GREETING, REPLY, APOLOGY, "Your order"):  # no answer is to wait for the servers' own voice
        speak(text, RATE)
        speak(f"{text} ", RATE)
    say(QUESTION)
    agent = AgentServer(tmp_path_factory.mktemp("agent"), profiles=[PROFILE])
    await asyncio.to_thread(agent.prepare)
    await asyncio.to_thread(agent.python, "manage.py", "shell", "--no-imports", "-c", ACCOUNTS)
    made = {named: Call(agent, *named) for named in CALLS}
    async with AsyncExitStack() as running:
        await asyncio.to_thread(agent.start)
        running.push_async_callback(asyncio.to_thread, agent.stop)
        calling, free = [], asyncio.Semaphore(AT_ONCE)
        for named, call in made.items():
            await free.acquire()
            cloud = await running.enter_async_context(cartesia.at_one_address(call.stt, call.tts))
            llm = await running.enter_async_context(call.llm.running())
            for provider, url in (("cartesia", cloud), ("openai", llm)):
                agent.write("UPDATE calls_provideraccount SET base_url = ? WHERE provider = ?", url, provider)
            calling.append(asyncio.create_task(call.run()))
            calling[-1].add_done_callback(lambda _: free.release())
            if named == COLD:
                await calling[-1]
            await asyncio.wait_for(call.configured.wait(), 20)  # the next call has other addresses
        await asyncio.gather(*calling)
    return made


async def test_a_call_through_the_cloud(calls):
    call = calls["llm", "none"]
    assert call.report.failure is None
    assert call.report.of("error") == call.report.dropped == call.report.in_vain == []
    assert word_error_rate(f"{GREETING} {REPLY}", call.heard) <= 0.2
    heard = bytes(call.stt.sessions[0].audio)
    assert word_error_rate(QUESTION, recognise(heard)) <= 0.2
    session, turns, failures = await call.stored()
    assert turns == [("agent", GREETING), ("caller", QUESTION), ("agent", REPLY)]
    assert (session["status"], session["error"], failures) == ("completed", "", [])


async def test_a_voice_that_refuses_the_first_call(calls):
    """The embedded voice is loaded for the apology."""
    call = calls[COLD]
    assert {error["code"] for error in call.report.of("error")} == {502}
    assert "went wrong" in call.heard
    session, _turns, failures = await call.stored()
    assert (session["status"], set(failures)) == ("completed", {"tts"})


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
    call = calls[service, fault]
    session, _turns, failures = await call.stored()
    assert set(failures) == {service}
    assert len(failures) == len(call.report.of("error"))
    severities = [event["severity"] for event in call.agent.events(call.room)]
    assert session["error_count"] == severities.count("error")
    if (service, fault) != ("stt", "dropped"):  # the words that were shown serve: a warning
        assert session["error_count"] > 0
