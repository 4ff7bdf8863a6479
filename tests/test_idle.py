"""A call's life is its audio, whatever else its client sends."""

import asyncio

import pytest

from calls.checks import audio_stopped
from calls.gateway.idle import NO_AUDIO_S, AudioTimer
from calls.models import EndReason
from tests.virtual_time import VirtualTime


def when_over(audio_until):
    """A client that sends audio for so many seconds: why it is over, when, and when the last audio came."""

    async def call():
        loop = asyncio.get_running_loop()
        began, over = loop.time(), loop.create_future()
        timer = AudioTimer(over.set_result)
        while loop.time() - began < audio_until:
            await asyncio.sleep(0.01)
            timer.heard(loop.time())
        reason = await over
        last = None if timer.last_audio is None else timer.last_audio - began
        return reason, loop.time() - began, last, timer.silent_s

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(call())


@pytest.mark.parametrize("seconds", [0.01, 22.0, 100.0])
def test_a_call_is_over_15_s_after_its_last_audio(seconds):
    reason, ended, last_audio, silent_s = when_over(seconds)
    assert reason is EndReason.AUDIO_STOPPED
    assert last_audio == pytest.approx(seconds, abs=0.02)
    assert ended == pytest.approx(seconds + 15, abs=0.02)
    assert silent_s == pytest.approx(15, abs=0.02)


def test_a_client_that_never_sends_audio_has_its_bound_too():
    reason, ended, last_audio, silent_s = when_over(0)
    assert (reason, last_audio, silent_s) == (EndReason.IDLE, None, None)
    assert ended == pytest.approx(NO_AUDIO_S)


def test_operators_may_have_it_wait_longer(settings):
    settings.AUDIO_STOPPED_SECONDS = 120
    assert when_over(3.0)[1] == pytest.approx(123, abs=0.02)


@pytest.mark.parametrize(("seconds", "wrong"), [(15, False), (1, False), (0, True), (-5, True)])
def test_a_time_in_which_no_call_can_begin_is_refused(settings, seconds, wrong):
    settings.AUDIO_STOPPED_SECONDS = seconds
    said = [error.msg for error in audio_stopped()]
    assert said == ([f"AUDIO_STOPPED_SECONDS={seconds}: 1 or more was expected"] if wrong else [])
