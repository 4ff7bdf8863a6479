"""Whose calls are whose: leases are taken, renewed, given back and lapse, against the real database."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import OperationalError
from django.utils import timezone

from calls.database import DatabaseThreads
from calls.gateway.server import lifespan
from calls.models import CallSession, CallStart, Description, Node
from calls.process import Load, Process, State, this_process
from calls.recorder import notify, ownership, writer
from calls.recorder.ownership import Ownership
from tests.conftest import end_row

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def boot(monkeypatch):
    """A process of this name starts: what has its boot from now on has another one than before."""

    def begin():
        monkeypatch.setattr(ownership, "this_process", Process())
        return ownership.this_process

    return begin


@pytest.fixture
async def own():
    """Make leases; they are given back at the end."""
    made = []

    def make(load=Load):
        made.append(Ownership(load))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@sync_to_async
def call_on(node_id):
    """A call that runs on this boot."""
    told = Description("", "", "", {}, {})
    return CallSession.objects.start(CallStart(uuid4(), None, told, timezone.now(), "", node_id))


@sync_to_async
def age(node_id, seconds):
    """The node was seen so long ago."""
    Node.objects.filter(pk=node_id).update(seen_at=timezone.now() - timedelta(seconds=seconds))


async def reason_of(call):
    return (await CallSession.objects.aget(pk=call.pk)).end_reason


async def test_a_process_is_there_from_its_start_and_says_what_it_does(own, boot, settings):
    process = boot()
    await own(lambda: Load(calls=3, most=50)).start()
    node = await Node.objects.aget()
    assert (node.id, node.name, node.state) == (process.boot, settings.NODE_NAME, "starting")
    assert (node.calls, node.capacity) == (3, 50)
    assert node.address == f"{settings.HOST}:{settings.PORT}"


async def test_the_lease_is_renewed_with_calls_and_state(own, boot, monkeypatch):
    monkeypatch.setattr(ownership, "RENEW_S", 0.02)
    process, calls = boot(), 1
    await own(lambda: Load(calls=calls)).start()
    await age(process.boot, 25)
    process.move(State.ACCEPTING)
    process.move(State.DRAINING)
    calls = 7
    async with asyncio.timeout(5):
        while (node := await Node.objects.aget()).calls != 7:  # noqa: ASYNC110  a thread writes it
            await asyncio.sleep(0.02)
    assert node.state == "draining"
    assert timezone.now() - node.seen_at < timedelta(seconds=20)


async def test_a_second_process_of_the_same_name_leaves_the_first_ones_calls(own, boot):
    first = boot()
    await own().start()
    call = await call_on(first.boot)
    second = boot()
    await own().start()
    assert first.boot != second.boot
    assert await Node.objects.acount() == 2
    assert await reason_of(call) == ""


async def test_the_calls_of_a_dead_process_are_closed_by_any_other_and_watchers_told(own, boot):
    dead = boot()
    one = own()
    await one.start()
    call = await call_on(dead.boot)
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(notify.group_of(call.pk), channel)
    await age(dead.boot, 31)
    boot()
    await own().start()
    assert await reason_of(call) == "crash"
    assert await asyncio.wait_for(layer.receive(channel), 5) == notify.finished(call.pk)


async def test_a_process_that_was_only_away_keeps_its_calls_ends(own, boot):
    """It was taken for dead; its own end of the call counts."""
    slow = boot()
    await own().start()
    call = await call_on(slow.boot)
    await age(slow.boot, 31)
    boot()
    await own().start()
    assert await reason_of(call) == "crash"
    assert await sync_to_async(CallSession.objects.finish)(end_row(call.pk, end_reason="idle"))
    assert await reason_of(call) == "idle"


async def test_of_several_that_close_a_call_one_does(boot):
    dead = boot()
    one = Ownership(Load)
    await one.start()
    await call_on(dead.boot)
    await age(dead.boot, 31)
    threads = DatabaseThreads("sweep", 4)
    closed = await asyncio.gather(*(threads.run(CallSession.objects.close_orphans) for _ in range(4)))
    threads.close()
    assert sorted(map(len, closed)) == [0, 0, 0, 1]
    await one.close()


async def test_a_lease_is_given_back(own, boot):
    """What a stopped process could not store is closed without waiting for the lease to lapse."""
    stopping = boot()
    one = own()
    await one.start()
    call = await call_on(stopping.boot)
    await one.close()
    assert (await Node.objects.aget()).state == "stopped"
    boot()
    await own().start()
    assert await reason_of(call) == "crash"


async def test_a_database_that_is_away_is_asked_again(own, boot, monkeypatch, caplog):
    monkeypatch.setattr(ownership, "RENEW_S", 0.02)
    real, failures = Node.objects.renew, [OperationalError("gone")] * 2
    renewed, loop = asyncio.Event(), asyncio.get_running_loop()

    def renew(row):
        if row.calls and failures:
            raise failures.pop()
        if row.calls:
            loop.call_soon_threadsafe(renewed.set)
        return real(row)

    monkeypatch.setattr(Node.objects, "renew", renew)
    boot()
    calls = 0
    await own(lambda: Load(calls=calls)).start()
    calls = 1
    await asyncio.wait_for(renewed.wait(), 5)
    assert caplog.text.count("was not renewed: OperationalError: gone") == 2


async def test_old_boots_are_forgotten_at_a_start(own, boot):
    for _ in range(2):
        old = boot()
        await own().start()
    await call_on(old.boot)
    await sync_to_async(Node.objects.update)(seen_at=timezone.now() - timedelta(days=8))
    process = boot()
    await own().start()
    assert {node.id async for node in Node.objects.all()} == {old.boot, process.boot}


async def test_a_server_takes_the_lease_before_its_first_call_and_gives_it_back_after_its_last(monkeypatch):
    async def nothing():
        """Models are loaded elsewhere."""

    monkeypatch.setattr(lifespan.build, "warm", nothing)
    monkeypatch.setattr(lifespan.gc, "freeze", lambda: None)
    monkeypatch.setattr(this_process, "_state", State.STARTING)
    await lifespan.startup()
    assert this_process.is_accepting
    call = await call_on(this_process.boot)
    assert call.node_id == this_process.boot
    writer.recorder().finish(end_row(call.pk))
    await lifespan.shutdown()
    assert this_process.state is State.STOPPED
    assert (await Node.objects.aget()).state == "stopped"
    assert await reason_of(call) == "disconnect"


async def test_calls_are_erased_when_their_profile_keeps_them_no_longer(own, boot):
    """Those that go on are left, whatever is said of them."""
    boot()
    node = own()
    await node.start()
    kept, gone, active = [await call_on(None) for _ in range(3)]
    for call in (kept, gone):
        await sync_to_async(CallSession.objects.finish)(end_row(call.pk))
    past, future = (timezone.now() + timedelta(seconds=seconds) for seconds in (-1, 60))
    await CallSession.objects.filter(pk__in=[gone.pk, active.pk]).aupdate(expires_at=past)
    await CallSession.objects.filter(pk=kept.pk).aupdate(expires_at=future)
    await node.tell()
    left = [call.pk async for call in CallSession.objects.all()]
    assert set(left) == {kept.pk, active.pk}
