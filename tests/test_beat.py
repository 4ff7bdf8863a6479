"""The beat: which times it joins, and waiting for it."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.audio.beat import BEAT_S, nearest_beat, next_beat, until

TIMES = st.floats(0, 1e7)


@given(TIMES)
def test_the_next_beat_is_not_before_the_time_and_less_than_a_beat_after_it(at):
    assert -1e-4 * BEAT_S - 1e-8 <= next_beat(at) - at < BEAT_S + 1e-8


@given(TIMES)
def test_the_nearest_beat_is_half_a_beat_away_at_most(at):
    assert abs(nearest_beat(at) - at) <= BEAT_S / 2 + 1e-8


@given(st.integers(0, 10**9))
def test_a_beat_is_its_own_next_and_nearest(number):
    at = number * BEAT_S
    assert next_beat(at) == nearest_beat(at) == pytest.approx(at)


async def test_those_who_wait_for_one_beat_go_on_together():
    loop, order = asyncio.get_running_loop(), []
    at = next_beat(loop.time() + 0.02)

    async def wait(name):
        await until(at)
        order.append((name, loop.time() >= at - 0.001))

    await asyncio.gather(wait("a"), wait("b"))
    assert order == [("a", True), ("b", True)]


async def test_who_is_cancelled_as_the_beat_comes_leaves_no_error(caplog):
    loop = asyncio.get_running_loop()
    at = loop.time() + 0.005
    waiting = asyncio.create_task(until(at))
    await asyncio.sleep(0)
    loop.call_at(at - 1e-6, waiting.cancel)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(at + 0.005)  # its timer would have come by then
    assert not caplog.records
