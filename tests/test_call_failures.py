"""A call whose services fail: every failure is told, and one apology follows each thing the caller says."""

import asyncio

import pytest

from calls import events
from calls.conversation.call import Call, Client
from calls.conversation.failures import SAME_S, Failures
from calls.events import LLM, STT, TTS
from calls.models import EndReason
from calls.profiles import choosing
from calls.recorder import writer
from tests.cloud.journal import Journal
from tests.conftest import publish_profile

pytestmark = pytest.mark.django_db(transaction=True)

APOLOGY = "Sorry."
AWAITING = {
    "speech": events.Awaiting(STT),
    "turn": events.Awaiting(LLM),
    "over": events.Interrupted("Hel", 0),
}


@pytest.fixture
def profile(db):
    local = {f"{kind}_provider": "local" for kind in (STT, LLM, TTS)}
    return publish_profile(
        "default", is_default=True, greeting="", apology=APOLOGY, farewell="Goodbye!", **local
    )


@pytest.fixture
async def call(profile, monkeypatch):
    """A call with the embedded services, and what its client is told, as `told`."""
    monkeypatch.setattr(choosing, "_remembered", {})
    told = Journal()

    async def send_audio(pcm):
        """The caller listens."""

    client = Client(told.append, send_audio, told.append, told.append, "127.0.0.1")
    call = Call(client, events.Request(), await choosing.choose(""), writer.recorder())
    call.told = told
    call.start(lambda: ("seed", None))
    yield call
    await call.end("disconnect", "seed")
    await writer.close()
    choosing.close()


def failures(call):
    return [(event.part, event.message) for event in call.told if isinstance(event, events.Failed)]


async def spoken(call, sentences):
    """Wait until the agent has spoken so many sentences; which those are."""

    def said():
        return [event.text for event in call.told if isinstance(event, events.Said)]

    await call.told.find(lambda _: len(said()) >= sentences)
    return said()


async def test_errors_of_one_failure_get_one_apology_and_each_is_told_once(call):
    call.take(events.Awaiting(LLM))
    for message in ("refused", "refused", "gone", "refused"):
        call.take(events.Failed(LLM, message))
    call.take(events.Failed(TTS, "gone"))
    assert failures(call) == [(LLM, "refused"), (LLM, "gone"), (TTS, "gone")]
    assert await spoken(call, 1) == [APOLOGY]
    await call.verbs.end(EndReason.MAX_DURATION)
    assert await spoken(call, 2) == [APOLOGY, call.config.farewell]


@pytest.mark.parametrize("awaiting", AWAITING.values(), ids=AWAITING)
async def test_what_the_caller_says_next_fails_anew(call, awaiting):
    """However soon: it is told again, and there is another apology."""
    call.take(events.Awaiting(LLM))
    call.take(events.Failed(LLM, "refused"))
    await spoken(call, 1)
    call.take(awaiting)
    call.take(events.Failed(LLM, "refused"))
    assert failures(call) == [(LLM, "refused")] * 2
    assert await spoken(call, 2) == [APOLOGY, APOLOGY]


async def test_nobody_is_waited_for_after_a_failure(call, monkeypatch):
    """Also after one that is told already: nothing claims later that nothing came."""
    monkeypatch.setattr("calls.conversation.watchdog.DUE_S", {LLM: 0.05, STT: 0.05, TTS: 0.05})
    call.take(events.Failed(TTS, "refused"))
    call._watchdog.expect(TTS)
    call.take(events.Failed(TTS, "refused"))
    assert call._watchdog._timer is None
    assert failures(call) == [(TTS, "refused")]


async def test_the_same_error_is_another_failure_after_a_while(monkeypatch):
    now = 100.0
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now)
    known = Failures()
    assert known.is_new(STT, "closed")
    assert not known.is_new(STT, "closed")
    now += SAME_S
    assert known.is_new(STT, "closed")
    assert len(known._told) == 1, "what is long past is not kept"
