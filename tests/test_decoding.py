"""The recogniser's threads: bounded, in fair turns, and finals before partials."""

import asyncio
import threading

import pytest

from calls.providers.local.decoding import Threads

WAIT_S = 5


class Model:
    """Says when it begins with a piece of audio, and ends when it is told to, or given up."""

    def __init__(self):
        self.begun = []
        self.given_up = []
        self.changed = threading.Condition()
        self.released = set()

    def transcribe(self, pcm, draft, give_up):
        with self.changed:
            self.begun.append(pcm)
            self.changed.notify_all()
            while pcm not in self.released:
                self.changed.wait(0.01)
                if give_up():
                    self.given_up.append(pcm)
                    return None
        return pcm

    def release(self, *pcm):
        with self.changed:
            self.released.update(pcm)
            self.changed.notify_all()

    def wait(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.begun) >= count, WAIT_S), self.begun


@pytest.fixture
def model():
    return Model()


@pytest.fixture
async def desk(model):
    threads = Threads(lambda _name: model, 2)
    yield threads.desk()
    model.release(*map(bytes, ([i] for i in range(20))))
    await asyncio.to_thread(threads.close)


def piece(number):
    return bytes([number])


async def begun(model, count):
    await asyncio.to_thread(model.wait, count)


async def test_no_more_at_once_than_there_are_threads_and_first_come_first_served(desk, model):
    finals = [asyncio.create_task(desk.transcribe(piece(i))) for i in range(5)]
    await begun(model, 2)
    for number in range(5):
        assert len(model.begun) <= number + 2
        model.release(piece(number))
        assert await asyncio.wait_for(finals[number], WAIT_S) == piece(number)
    assert sorted(model.begun[:2]) + model.begun[2:] == [piece(i) for i in range(5)]


async def test_nothing_is_shown_when_all_threads_are_busy(desk, model):
    finals = [asyncio.create_task(desk.transcribe(piece(i))) for i in range(2)]
    await begun(model, 2)
    assert await asyncio.wait_for(desk.glance(piece(9)), WAIT_S) is None
    assert piece(9) not in model.begun
    model.release(piece(0), piece(1))
    await asyncio.gather(*finals)


async def test_a_final_does_not_wait_for_a_partial(desk, model):
    partials = [asyncio.create_task(desk.glance(piece(i))) for i in (8, 9)]
    await begun(model, 2)
    final = asyncio.create_task(desk.transcribe(piece(0)))
    model.release(piece(0))
    assert await asyncio.wait_for(final, WAIT_S) == piece(0)
    model.release(piece(8), piece(9))
    assert None in await asyncio.gather(*partials)
    assert model.given_up


async def test_a_partial_that_nobody_wants_any_more_is_given_up(desk, model):
    vain = threading.Event()
    partial = asyncio.create_task(desk.glance(piece(9), (), vain.is_set))
    await begun(model, 1)
    vain.set()
    assert await asyncio.wait_for(partial, WAIT_S) is None


async def test_who_leaves_the_queue_is_passed_over(desk, model):
    running = [asyncio.create_task(desk.transcribe(piece(i))) for i in range(2)]
    await begun(model, 2)
    leaving, staying = (asyncio.create_task(desk.transcribe(piece(i))) for i in (2, 3))
    await asyncio.sleep(0)
    leaving.cancel()
    model.release(*map(piece, range(4)))
    await asyncio.gather(*running)
    assert await asyncio.wait_for(staying, WAIT_S) == piece(3)
    assert piece(2) not in model.begun


async def test_who_leaves_in_the_moment_a_thread_becomes_free_has_left(desk, model):
    running = [asyncio.create_task(desk.transcribe(piece(i))) for i in range(2)]
    await begun(model, 2)
    leaving = asyncio.create_task(desk.transcribe(piece(2)))
    await asyncio.sleep(0)
    leaving.cancel()
    desk._release()  # before the task has learnt of its end
    with pytest.raises(asyncio.CancelledError):
        await leaving
    model.release(*map(piece, range(4)))
    await asyncio.gather(*running)


async def test_who_leaves_in_the_middle_gives_its_thread_back(desk, model):
    leaving = [asyncio.create_task(desk.transcribe(piece(i))) for i in range(2)]
    await begun(model, 2)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    others = [asyncio.create_task(desk.transcribe(piece(i))) for i in (5, 6)]
    await begun(model, 4)  # on both threads
    model.release(piece(5), piece(6))
    assert await asyncio.gather(*others) == [piece(5), piece(6)]
    assert sorted(model.given_up) == [piece(0), piece(1)]
