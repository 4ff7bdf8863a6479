"""The shared models give the verdicts that Pipecat's own analysers give.

A failure here after an upgrade of Pipecat says that parts of it changed on which calls.pipeline relies.
"""

import asyncio
from itertools import groupby, zip_longest

import numpy as np
import onnxruntime
import openvino
import pytest
from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADParams, VADState

from calls.audio.format import SAMPLE_RATE
from calls.pipeline import smart_turn, vad
from calls.pipeline.smart_turn import SharedSmartTurn
from calls.pipeline.vad import WINDOW_BYTES, SharedSileroVAD
from calls.simulator.voices import speak

PIZZAS = "I would like to order two large pizzas."  # without a pause
STOP = 6  # windows of silence that end speech
EARLIER = 3  # windows
HOURS = "Please tell me about your opening hours on Sunday."


def on_the_phone(*parts):
    """Speech (a text) and pauses (seconds) on a line that is never quite silent."""
    noise = np.random.default_rng(7)
    quiet = bytes(SAMPLE_RATE // 5 * 2)
    pcm = b"".join(
        (quiet + speak(part) + quiet) if isinstance(part, str) else bytes(int(part * SAMPLE_RATE) * 2)
        for part in parts
    )
    pcm = pcm[: len(pcm) // WINDOW_BYTES * WINDOW_BYTES]
    samples = np.frombuffer(pcm, "<i2").astype(int) + noise.integers(-8, 9, len(pcm) // 2)
    return np.clip(samples, -32768, 32767).astype("<i2").tobytes()


def windows(pcm):
    return [pcm[i : i + WINDOW_BYTES] for i in range(0, len(pcm), WINDOW_BYTES)]


class PipecatsVAD(SileroVADAnalyzer):
    """Pipecat's own analyser, with its last confidence where the shared one has it."""

    def __init__(self):
        super().__init__()
        self.set_sample_rate(SAMPLE_RATE)

    def voice_confidence(self, buffer):
        self._confidence = float(np.squeeze(super().voice_confidence(buffer)))
        return self._confidence


async def verdicts(analyzer, pcm):
    """The state and the confidence after each window."""
    said = []
    for window in windows(pcm):
        state = await judged(analyzer, window)
        said.append((state, analyzer._confidence))
    return said


async def judged(analyzer, window):
    """The state after a window, from Pipecat's analyser or from ours."""
    if isinstance(analyzer, PipecatsVAD):
        return await analyzer.analyze_audio(window)
    told = asyncio.get_running_loop().create_future()
    analyzer.judge(window, lambda heard, state: told.set_result((heard, state)))
    heard, state = await told
    assert heard == window
    return state


def spoken(said):
    """The first and the last window of each stretch of speech."""
    stretches, at = [], 0
    for is_speech, run in groupby(said, lambda verdict: verdict[0] in (VADState.SPEAKING, VADState.STOPPING)):
        length = len(list(run))
        if is_speech:
            stretches.append((at, at + length))
        at += length
    return stretches


def assert_same(found, expected):
    """Speech begins in the same places, and ends there or up to 100 ms earlier.

    Loudness is taken in another way, and quiet windows are not judged: both may move speech by a window. Its
    end is heard earlier, as Silero goes on to hear a voice for a while.
    """
    assert spoken(found)
    for (begin, end), (their_begin, their_end) in zip_longest(spoken(found), spoken(expected)):
        assert begin == pytest.approx(their_begin, abs=1)
        assert their_end - EARLIER <= end <= their_end
        pairs = zip(found[begin : end - STOP], expected[begin : end - STOP], strict=True)
        judged_by_both = [(ours, theirs) for (_, ours), (_, theirs) in pairs if ours]
        assert len(judged_by_both) > 0.8 * (end - STOP - begin)
        for ours, theirs in judged_by_both:
            assert ours == pytest.approx(theirs, abs=0.1)


@pytest.fixture(scope="module")
def calls():
    return [on_the_phone(0.5, PIZZAS, 2.2, HOURS, 0.5), on_the_phone(1.1, HOURS, 0.4, PIZZAS, 0.8)]


async def test_a_call_alone(calls):
    for pcm in calls:
        expected = await verdicts(PipecatsVAD(), pcm)
        confidences = [confidence for _, confidence in expected]
        assert max(confidences) > 0.9
        assert min(confidences) < 0.1
        assert_same(await verdicts(SharedSileroVAD(VADParams()), pcm), expected)


async def test_calls_at_the_same_time_do_not_mix(calls):
    """Their windows are judged in one batch, and each call hears itself only."""
    expected = [await verdicts(PipecatsVAD(), pcm) for pcm in calls]
    found = await asyncio.gather(*(verdicts(SharedSileroVAD(VADParams()), pcm) for pcm in calls * 2))
    for ours, theirs in zip(found, expected * 2, strict=True):
        assert_same(ours, theirs)


def fainter(pcm, db):
    return (np.frombuffer(pcm, "<i2") * 10 ** (-db / 20)).astype("<i2").tobytes()


async def test_a_faint_voice_is_heard_while_the_agent_is_silent():
    """And is not while it speaks: it may be the agent's own, come back."""
    pcm = fainter(on_the_phone(0.5, PIZZAS, 0.5), 26)
    analyzer = SharedSileroVAD()
    assert len(spoken(await verdicts(analyzer, pcm))) == 1
    analyzer.listen(closely=False)
    assert spoken(await verdicts(analyzer, pcm)) == []
    analyzer.listen(closely=True)
    assert len(spoken(await verdicts(analyzer, pcm))) == 1


async def test_windows_of_a_call_that_was_held_up_are_judged_in_their_order(calls):
    """They are in one batch, and the state after each is what it would have been one by one."""
    told = []
    done = asyncio.Event()
    analyzer = SharedSileroVAD()
    heard = windows(calls[0])[:80]

    def note(window, state):
        told.append((window, state))
        if len(told) == len(heard):
            done.set()

    for window in heard:
        analyzer.judge(window, note)
    await asyncio.wait_for(done.wait(), 10)
    assert [window for window, _ in told] == heard
    assert [state for _, state in told] == [
        state for state, _ in await verdicts(SharedSileroVAD(), b"".join(heard))
    ]


async def test_the_model_judges_only_what_may_be_speech(monkeypatch):
    """Neither digital silence nor the noise of a line costs anything, and speech after it is found."""
    judged_by_model = []
    whole = vad._confidences
    monkeypatch.setattr(vad, "_confidences", lambda batch: judged_by_model.extend(batch) or whole(batch))
    analyzer = SharedSileroVAD()
    quiet = await verdicts(analyzer, bytes(WINDOW_BYTES * 50) + on_the_phone(3.0))
    assert {state for state, _ in quiet} == {VADState.QUIET}
    assert not judged_by_model
    speech = on_the_phone(PIZZAS, 0.5)
    assert_same(await verdicts(analyzer, speech), await verdicts(PipecatsVAD(), speech))
    assert judged_by_model


async def test_a_model_that_fails_is_named_and_the_call_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(vad, "_silero", lambda: None)
    assert {state for state, _ in await verdicts(SharedSileroVAD(), on_the_phone(PIZZAS))} == {VADState.QUIET}
    assert "could not be judged: AttributeError" in caplog.text


async def turn_of(analyzer, pcm):
    """Whether the turn is over after `pcm`, and how sure that is."""
    analyzer.set_sample_rate(SAMPLE_RATE)
    for window in windows(pcm):
        analyzer.append_audio(window, is_speech=True)
        await asyncio.sleep(0)  # the other call's turn
    state, metrics = await analyzer.analyze_end_of_turn()
    await analyzer.cleanup()
    return state, metrics.probability


async def test_a_turn_ends_where_pipecat_says():
    whole = on_the_phone(f"Hello, {PIZZAS}", 0.2)
    cut = whole[: int(1.45 * SAMPLE_RATE) * 2 // WINDOW_BYTES * WINDOW_BYTES]  # "Hello, I would like to"
    expected = [await turn_of(LocalSmartTurnAnalyzerV3(), pcm) for pcm in (whole, cut)]
    assert [state for state, _ in expected] == [EndOfTurnState.COMPLETE, EndOfTurnState.INCOMPLETE]
    found = await asyncio.gather(*(turn_of(SharedSmartTurn(), pcm) for pcm in (whole, cut, cut, whole)))
    for (ours, our_probability), (theirs, probability) in zip(found, expected + expected[::-1], strict=True):
        assert ours is theirs
        assert our_probability == pytest.approx(probability, abs=0.02)


def test_no_call_loads_a_model(monkeypatch):
    vad.warm()
    smart_turn.warm()

    def refuse(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    monkeypatch.setattr(openvino, "Core", refuse)
    SharedSileroVAD()
    assert SharedSmartTurn()._predict_endpoint(np.zeros(SAMPLE_RATE, np.float32))["prediction"] in (0, 1)
