"""The recorder against the real database: everything arrives, in bounded time, whatever happens."""

import asyncio
from dataclasses import fields
from itertools import pairwise
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError, connection
from django.utils import timezone

from calls.models import CallEvent, CallProgress, CallSession, CallStart, Description, Turn
from calls.recorder import notify
from calls.recorder.backlog import MOST_ROWS
from calls.recorder.batch import Batch
from calls.recorder.interim import INTERIM_S, InterimTurns
from calls.recorder.writer import Recorder
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


async def test_how_far_a_call_has_got_is_stored_and_the_last_counts(recorder):
    call_id, now = uuid4(), timezone.now()
    recorder.start(start_row(call_id))
    recorder.go_on(call_id, CallProgress(5.0, 0.0, "", now))
    recorder.go_on(call_id, CallProgress(10.0, 2.0, "new", now))
    assert await recorder.flush(5)
    (call,) = await rows(CallSession)
    assert (call.status, call.audio_in_s, call.audio_out_s) == ("active", 10.0, 2.0)
    recorder.finish(end_row(call_id))
    recorder.go_on(call_id, CallProgress(1.0, 1.0, "free", now))
    assert await recorder.flush(5)
    (call,) = await rows(CallSession)
    assert (call.status, call.audio_in_s) == ("completed", end_row(call_id).audio_in_s)


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

    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.01)
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


async def test_what_gathers_is_bounded_and_the_end_of_a_call_is_left_out_last(recorder, monkeypatch, caplog):
    monkeypatch.setattr("calls.recorder.backlog.MOST_ROWS", 40)
    call_id = uuid4()
    recorder.start(start_row(call_id))
    for index in range(100):
        recorder.event(event_row(call_id))
        recorder.turn(turn_row(call_id, index, end_ms=None, final=False))
    for index in range(100, 200):
        recorder.turn(turn_row(call_id, index))
    recorder.finish(end_row(call_id))
    assert await recorder.flush(5)
    turns = await rows(Turn)
    assert len([turn for turn in turns if turn.index >= 100]) == 10
    assert len(turns) + len(await rows(CallEvent)) == 40 * 1.25 - 1
    assert [call.status for call in await rows(CallSession)] == ["completed"]
    assert "1 rows were left out" in caplog.text
    assert MOST_ROWS > 1_000


async def test_what_gathers_is_bounded_while_the_database_is_away(recorder, monkeypatch):
    monkeypatch.setattr("calls.recorder.backlog.MOST_ROWS", 10)
    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0)
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
    late, *kept = sorted(await rows(CallEvent), key=lambda event: event.provider, reverse=True)
    assert [event.message for event in kept] == [str(number) for number in range(9)]
    assert late.message.startswith("the database was away for ")
    assert late.severity == "warning"


async def test_what_was_written_before_the_database_went_away_is_not_written_again(recorder, monkeypatch):
    """It goes away while calls are written one by one, as it refused one of them."""
    first, second, unknown, real = uuid4(), uuid4(), uuid4(), Batch.write
    outages = [OperationalError("gone")]

    def write(batch):
        if outages and list(batch.starts) == [second]:
            raise outages.pop()
        real(batch)

    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.01)
    monkeypatch.setattr(Batch, "write", write)
    for call_id in (first, second):
        recorder.start(start_row(call_id))
        recorder.event(event_row(call_id))
    recorder.event(event_row(unknown))  # its call was never started: a foreign key to nowhere
    assert await recorder.flush(5)
    assert not outages
    stored = [event.session_id for event in await rows(CallEvent) if not event.provider]
    assert sorted(stored) == sorted([first, second])


BAD_ROWS = {
    "a turn before the call": lambda recorder, id: recorder.turn(turn_row(id, 7, start_ms=-1)),
    "an event before the call": lambda recorder, id: recorder.event(event_row(id, ms=-1)),
    "a number of no size": lambda recorder, id: recorder.turn(turn_row(id, 7, total_ms=2**70)),
    "a description of nothing": lambda recorder, id: recorder.describe(id, Description(None, "", "", {}, {})),
}


@pytest.mark.parametrize("bad", BAD_ROWS.values(), ids=BAD_ROWS)
async def test_a_row_the_database_refuses_is_lost_alone_and_its_call_says_so(recorder, bad, caplog):
    call_id = uuid4()
    recorder.start(start_row(call_id))
    recorder.turn(turn_row(call_id, 0, text="before"))
    bad(recorder, call_id)
    recorder.turn(turn_row(call_id, 1, text="after"))
    recorder.event(event_row(call_id))
    recorder.finish(end_row(call_id))
    assert await recorder.flush(5)
    assert [turn.text for turn in await rows(Turn)] == ["before", "after"]
    assert [call.status for call in await rows(CallSession)] == ["completed"]
    said = [event.message for event in await rows(CallEvent)]
    assert "m" in said
    assert caplog.text.count("a row was refused by the database and is lost") == 1
    if "event" not in caplog.text.partition("Batch(")[0]:
        assert [message for message in said if message.startswith("a row was refused")] or len(said) == 1


@pytest.mark.parametrize(
    "error", [NotADirectoryError(20, "no folder"), PermissionError(13, "no"), OSError(5, "io")]
)
async def test_what_ails_this_machine_is_no_fault_of_a_row(recorder, error, monkeypatch):
    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.01)
    real, errors = Batch.write, [error]

    def write(batch):
        if errors:
            raise errors.pop()
        real(batch)

    monkeypatch.setattr(Batch, "write", write)
    call_id = uuid4()
    recorder.start(start_row(call_id))
    recorder.finish(end_row(call_id))
    assert await recorder.flush(5)
    assert [call.status for call in await rows(CallSession)] == ["completed"]


async def on_its_connection(recorder, sql):
    """Execute on the connection over which the recorder writes."""

    def execute():
        with connection.cursor() as cursor:
            cursor.execute(sql)

    await recorder._backlog._thread.run(execute)


async def test_a_database_that_only_reads_is_tried_again(recorder, monkeypatch, caplog):
    """As PostgreSQL does after a failover. The connection that failed is replaced, and the new one writes."""
    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.05)
    postgresql = connection.vendor == "postgresql"
    only_read = (
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY" if postgresql else "PRAGMA query_only = 1"
    )
    await on_its_connection(recorder, only_read)
    call_id = uuid4()
    recorder.start(start_row(call_id))
    recorder.turn(turn_row(call_id, 0))
    recorder.finish(end_row(call_id))
    assert await recorder.flush(5)
    assert len(await rows(Turn)) == 1
    assert [call.status for call in await rows(CallSession)] == ["completed"]
    assert "storing calls in the database has failed" in caplog.text
    assert "storing calls in the database works again" in caplog.text


async def test_a_schema_that_lags_is_waited_for(recorder, monkeypatch):
    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.05)
    rename = "ALTER TABLE calls_turn RENAME COLUMN %s TO %s"
    await on_its_connection(recorder, rename % ("tts_ms", "later_ms"))
    try:
        call_id = uuid4()
        recorder.start(start_row(call_id))
        recorder.turn(turn_row(call_id, 0))
        recorder.finish(end_row(call_id))
        assert not await recorder.flush(0.3)
    finally:
        await on_its_connection(recorder, rename % ("later_ms", "tts_ms"))
    assert await recorder.flush(5)
    assert len(await rows(Turn)) == 1
    assert [call.status for call in await rows(CallSession)] == ["completed"]


async def test_what_is_written_twice_is_there_once():
    """The connection may break after the commit and before its answer: nobody knows then what was written."""
    call_id = uuid4()
    batch = Batch(starts={call_id: start_row(call_id)}, turns={(call_id, 0): turn_row(call_id, 0)})
    batch.events = [event_row(call_id), event_row(call_id)]
    batch.finishes[call_id] = end_row(call_id)
    for _ in range(2):
        await sync_to_async(batch.write)()
    (call,) = await rows(CallSession)
    assert (call.error_count, call.turn_count, call.status) == (2, 1, "completed")
    assert (len(await rows(CallEvent)), len(await rows(Turn))) == (2, 1)


async def test_a_writer_that_dies_is_started_again_and_its_rows_are_written(recorder, monkeypatch, caplog):
    real, faults = notify.Publisher.put, [KeyError("unforeseen")]

    def put(publisher, changes):
        if faults:
            raise faults.pop()
        real(publisher, changes)

    monkeypatch.setattr(notify.Publisher, "put", put)
    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.3)
    call_id = uuid4()
    recorder.start(start_row(call_id))
    recorder.event(event_row(call_id))
    assert not await recorder.flush(0.2)
    assert recorder.status == "the writer died and was started again: KeyError: 'unforeseen'"
    recorder.finish(end_row(call_id))
    assert await recorder.flush(5)
    assert recorder.status == "ok"
    assert "the recorder's task died" in caplog.text
    assert [call.status for call in await rows(CallSession)] == ["completed"]
    assert len(await rows(CallEvent)) == 1


async def test_rows_that_wait_for_long_are_told(recorder, monkeypatch):
    monkeypatch.setattr("calls.recorder.backlog.RETRY_S", 0.02)
    monkeypatch.setattr("calls.recorder.backlog.BEHIND_S", 0.05)
    rename = "ALTER TABLE calls_callsession RENAME COLUMN %s TO %s"
    await on_its_connection(recorder, rename % ("callee", "called"))
    try:
        recorder.start(start_row(uuid4()))
        assert not await recorder.flush(0.3)
        assert recorder.status == "1 rows wait, the oldest for 0 s"
    finally:
        await on_its_connection(recorder, rename % ("called", "callee"))
    assert await recorder.flush(5)
    assert recorder.status == "ok"


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
