"""The recorder against the real database: everything arrives, in bounded time, whatever happens."""

import asyncio
from dataclasses import fields
from itertools import pairwise
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from calls.models import CallEvent, CallSession, CallStart, Description, Turn
from calls.recorder import notify
from calls.recorder.batch import Batch
from calls.recorder.interim import INTERIM_S, InterimTurns
from calls.recorder.writer import MOST_ROWS, Recorder
from tests.conftest import end_row, event_row, turn_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def recorder():
    recorder = Recorder()
    yield recorder
    await recorder.close()


TOLD = Description("room", "", "", {}, {})


def start_row(call_id):
    return CallStart(call_id, None, TOLD, timezone.now(), "127.0.0.1", None)


async def rows(model):
    return await sync_to_async(lambda: list(model.objects.all()))()


async def test_a_whole_call_is_stored(recorder):
    call_id = uuid4()
    recorder.start(start_row(call_id))
    recorder.turn(turn_row(call_id, 0, "caller", "hel", end_ms=None, final=False))
    recorder.turn(turn_row(call_id, 0, "caller", "hello"))
    recorder.turn(turn_row(call_id, 1, "agent", "hi", total_ms=700))
    recorder.event(event_row(call_id))
    recorder.finish(end_row(call_id))
    assert await recorder.flush(5)

    (call,) = await rows(CallSession)
    assert (call.status, call.turn_count, call.median_latency_ms) == ("completed", 2, 700)
    assert [turn.text for turn in await rows(Turn)] == ["hello", "hi"]
    assert [event.kind for event in await rows(CallEvent)] == ["error"]


async def test_what_is_told_of_a_call_later_is_stored(recorder):
    early, late = uuid4(), uuid4()
    recorder.start(start_row(early))
    assert await recorder.flush(5)
    recorder.start(start_row(late))
    told = Description("told", "Ann", "Bob", {"a": 1}, {})
    for call_id in (early, late):
        recorder.describe(call_id, told)
        recorder.answered_by(call_id, {"stt": {"provider": "local"}})
    assert await recorder.flush(5)
    calls = await rows(CallSession)
    assert [Description(*(getattr(call, f.name) for f in fields(told))) for call in calls] == [told, told]
    assert [call.in_force for call in calls] == [{"stt": {"provider": "local"}}] * 2


async def test_what_is_handed_over_is_written_without_being_asked_for(recorder):
    call_id = uuid4()
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(notify.LIVE_GROUP, channel)
    recorder.start(start_row(call_id))
    message = await asyncio.wait_for(layer.receive(channel), 5)
    assert message == notify.started(call_id)
    assert len(await rows(CallSession)) == 1


async def test_the_watchers_of_one_call_hear_of_its_turns(recorder):
    call_id = uuid4()
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(notify.group_of(call_id), channel)
    recorder.start(start_row(call_id))
    recorder.turn(turn_row(call_id, 3))
    heard = [await asyncio.wait_for(layer.receive(channel), 5) for _ in range(2)]
    assert notify.turn(call_id, 3) in heard


async def test_a_database_that_is_away_is_tried_again(recorder, monkeypatch):
    call_id = uuid4()
    real, failures = Batch.write, [OperationalError("gone"), OperationalError("still gone")]

    failed, loop = asyncio.Event(), asyncio.get_running_loop()

    def write(batch):
        if failures:
            loop.call_soon_threadsafe(failed.set)
            raise failures.pop()
        real(batch)

    monkeypatch.setattr("calls.recorder.writer.RETRY_S", 0.01)
    monkeypatch.setattr(Batch, "write", write)
    recorder.start(start_row(call_id))
    recorder.turn(turn_row(call_id, 0, text="first"))
    await asyncio.wait_for(failed.wait(), 5)
    recorder.turn(turn_row(call_id, 0, text="second"))
    assert await recorder.flush(5)
    assert [turn.text for turn in await rows(Turn)] == ["second"]


async def test_a_call_the_database_refuses_takes_no_other_with_it(recorder):
    good, unknown = uuid4(), uuid4()
    recorder.turn(turn_row(unknown, 0))  # its call was never started: a foreign key to nowhere
    recorder.start(start_row(good))
    recorder.turn(turn_row(good, 0))
    recorder.describe(good, TOLD)
    recorder.answered_by(good, {})
    assert await recorder.flush(5)
    assert [turn.session_id for turn in await rows(Turn)] == [good]


async def test_what_gathers_is_bounded(recorder, monkeypatch):
    monkeypatch.setattr("calls.recorder.writer.MOST_ROWS", 10)
    call_id = uuid4()
    recorder.start(start_row(call_id))
    for index in range(100):
        recorder.turn(turn_row(call_id, index))
    assert await recorder.flush(5)
    assert len(await rows(Turn)) == 9
    assert MOST_ROWS > 1_000


async def test_what_gathers_is_bounded_while_the_database_is_away(recorder, monkeypatch):
    monkeypatch.setattr("calls.recorder.writer.MOST_ROWS", 10)
    monkeypatch.setattr("calls.recorder.writer.RETRY_S", 0)
    call_id, real = uuid4(), Batch.write
    loop, tries, away = asyncio.get_running_loop(), asyncio.Queue(), True

    def write(batch):
        if away:
            loop.call_soon_threadsafe(tries.put_nowait, len(batch))
            raise OperationalError("gone")
        real(batch)

    monkeypatch.setattr(Batch, "write", write)
    recorder.start(start_row(call_id))
    for number in range(20):
        recorder.event(event_row(call_id, str(number)))
        await asyncio.wait_for(tries.get(), 5)
    away = False
    assert await recorder.flush(5)
    assert [event.message for event in await rows(CallEvent)] == [str(number) for number in range(9)]


async def test_what_was_written_before_the_database_went_away_is_not_written_again(recorder, monkeypatch):
    """It goes away while calls are written one by one, as it refused one of them."""
    first, second, unknown, real = uuid4(), uuid4(), uuid4(), Batch.write
    outages = [OperationalError("gone")]

    def write(batch):
        if outages and list(batch.starts) == [second]:
            raise outages.pop()
        real(batch)

    monkeypatch.setattr("calls.recorder.writer.RETRY_S", 0.01)
    monkeypatch.setattr(Batch, "write", write)
    for call_id in (first, second):
        recorder.start(start_row(call_id))
        recorder.event(event_row(call_id))
    recorder.event(event_row(unknown))  # its call was never started: a foreign key to nowhere
    assert await recorder.flush(5)
    assert not outages
    assert {event.session_id for event in await rows(CallEvent)} == {first, second}
    assert len(await rows(CallEvent)) == 2


async def test_flushing_nothing_returns_at_once(recorder):
    assert await recorder.flush(0.01)


async def test_closing_writes_what_is_left():
    recorder = Recorder()
    recorder.start(start_row(uuid4()))
    await recorder.close()
    assert len(await rows(CallSession)) == 1


async def test_a_channel_layer_that_hangs_delays_no_row(recorder, monkeypatch):
    class Hanging:
        async def group_send(self, group, message):
            await asyncio.Event().wait()

    monkeypatch.setattr(notify, "get_channel_layer", Hanging)
    monkeypatch.setattr(notify, "PUBLISH_TIMEOUT_S", 0.05)
    for _ in range(3):
        recorder.start(start_row(uuid4()))
        assert await recorder.flush(5)
    assert len(await rows(CallSession)) == 3


# --- Turns that go on -------------------------------------------------------------------------------------


def word_by_word(call_id, words, index=0):
    """A turn as it is told: its text so far, and at the end that it is final."""
    said = [f"word{n}" for n in range(words)]
    told = [
        turn_row(call_id, index, "agent", " ".join(said[:n]), end_ms=None, final=False)
        for n in range(1, words)
    ]
    return [*told, turn_row(call_id, index, "agent", " ".join(said))]


def test_a_turn_that_goes_on_is_written_once_a_second_and_at_once_when_final():
    interim, call_id, written = InterimTurns(), uuid4(), []
    for n, row in enumerate(word_by_word(call_id, 60)):
        now = n / 3
        written += [(now, due.text) for due in interim.due(now)]
        if interim.take(row, now):
            written.append((now, row.text))
    times = [time for time, _ in written]
    assert len(written) == 21
    assert min(b - a for a, b in pairwise(times[:-1])) >= INTERIM_S - 1e-9
    assert written[0][1] == "word0"
    assert written[-1][1].endswith("word59")
    assert interim.next_due is None
    assert interim.forget(call_id) == []


def test_turns_of_several_calls_wait_for_themselves():
    interim, one, two = InterimTurns(), uuid4(), uuid4()
    first = {call_id: word_by_word(call_id, 3)[0] for call_id in (one, two)}
    second = {call_id: word_by_word(call_id, 3)[1] for call_id in (one, two)}
    assert interim.take(first[one], 0.0)
    assert interim.take(first[two], 0.5)
    assert not interim.take(second[one], 0.6)
    assert not interim.take(second[two], 0.6)
    assert interim.next_due == 1.0
    assert interim.due(0.9) == []
    assert interim.due(1.2) == [second[one]]
    assert interim.next_due == 1.5
    assert interim.forget(two) == [second[two]]
    assert interim.next_due is None


@pytest.fixture
def writes(monkeypatch):
    """The texts of turns as they are written."""
    real, written = Batch.write, []

    def write(batch):
        real(batch)
        written.extend(row.text for row in batch.turns.values())

    monkeypatch.setattr(Batch, "write", write)
    return written


async def test_the_text_of_a_turn_that_goes_on_is_stored_without_its_end(recorder, writes, monkeypatch):
    monkeypatch.setattr("calls.recorder.interim.INTERIM_S", 0.3)
    call_id = uuid4()
    recorder.start(start_row(call_id))
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(notify.group_of(call_id), channel)
    told = word_by_word(call_id, 4)[:-1]
    for row in told:
        recorder.turn(row)
    while told[-1].text not in writes:
        await asyncio.wait_for(layer.receive(channel), 5)
    assert writes == [told[0].text, told[-1].text]
    assert [turn.final for turn in await rows(Turn)] == [False]


async def test_flushing_and_finishing_leave_no_word_behind(recorder, writes):
    flushed, finished = uuid4(), uuid4()
    for call_id in (flushed, finished):
        recorder.start(start_row(call_id))
        for row in word_by_word(call_id, 4)[:-1]:
            recorder.turn(row)
    recorder.finish(end_row(finished))
    assert await recorder.flush(5)
    assert {turn.text for turn in await rows(Turn)} == {"word0 word1 word2"}
    assert len(await rows(Turn)) == 2


async def test_a_final_turn_does_not_wait(recorder, writes):
    call_id = uuid4()
    recorder.start(start_row(call_id))
    told = word_by_word(call_id, 4)
    for row in told:
        recorder.turn(row)
    assert await recorder.flush(5)
    assert writes == [told[-1].text]
