"""The recorder against the real database: everything arrives, in bounded time, whatever happens."""

import asyncio
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from calls.models import CallEvent, CallSession, Turn
from calls.recorder import notify
from calls.recorder.writer import MOST_ROWS, Batch, DescriptionRow, Recorder
from tests.conftest import turn_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def recorder():
    recorder = Recorder()
    yield recorder
    await recorder.close()


def start_row(call_id):
    return {
        "id": call_id,
        "room_id": "room",
        "profile_id": None,
        "config": {},
        "client_configs": {},
        "caller": "",
        "callee": "",
        "metadata": {},
        "started_at": timezone.now(),
        "remote_address": "127.0.0.1",
        "node": "test",
    }


def finish_row(call_id):
    return {
        "id": call_id,
        "status": "completed",
        "end_reason": "disconnect",
        "ended_at": timezone.now(),
        "audio_in_s": 2.5,
        "audio_out_s": 1.5,
        "client_generation": "seed",
        "error": "",
    }


async def rows(model):
    return await sync_to_async(lambda: list(model.objects.all()))()


async def test_a_whole_call_is_stored(recorder):
    call_id = uuid4()
    recorder.start(start_row(call_id))
    recorder.turn(turn_row(call_id, 0, "caller", "hel", end_ms=None))
    recorder.turn(turn_row(call_id, 0, "caller", "hello"))
    recorder.turn(turn_row(call_id, 1, "agent", "hi", latency={"turn_latency": 700}))
    recorder.event(event_row(call_id))
    recorder.finish(finish_row(call_id))
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
    told = {"room_id": "told", "caller": "Ann", "callee": "Bob", "metadata": {"a": 1}, "client_configs": {}}
    for call_id in (early, late):
        recorder.describe({"id": call_id, **told})
    assert await recorder.flush(5)
    calls = await rows(CallSession)
    assert [{name: getattr(call, name) for name in told} for call in calls] == [told, told]


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


def event_row(call_id, message="m"):
    return {"session_id": call_id, "ms": 5, "kind": "error", "detail": {"message": message}}


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
    recorder.describe({name: start_row(good)[name] for name in DescriptionRow.__annotations__})
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
