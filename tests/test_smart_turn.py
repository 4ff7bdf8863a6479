"""A turn is over where Pipecat's own analyser says so, on the same audio."""

import asyncio
import threading
from importlib.resources import as_file
from types import SimpleNamespace

import numpy as np
import onnxruntime
import openvino
import pytest
from pipecat.audio.turn.base_turn_analyzer import EndOfTurnState
from pipecat.audio.turn.smart_turn import base_smart_turn
from pipecat.audio.turn.smart_turn.base_smart_turn import BaseSmartTurn, SmartTurnParams
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

from calls.audio.format import SAMPLE_RATE
from calls.pipeline import smart_turn
from calls.pipeline.features import log_mel
from calls.pipeline.smart_turn import SharedSmartTurn
from calls.simulator.line import telephone
from calls.simulator.voices import VOICES, speak

PIZZAS = (
    "Hello, I would like to order two large pizzas. And please tell me about your opening hours on Sunday."
)
PIECE_BYTES = 4096  # 128 ms
CUTS_S = (0.6, 1.45, 2.1, 3.3, 4.2)


async def verdict(analyzer, pcm):
    """Whether the turn is over after `pcm`, and how sure that is."""
    analyzer.set_sample_rate(SAMPLE_RATE)
    for start in range(0, len(pcm), PIECE_BYTES):
        analyzer.append_audio(pcm[start : start + PIECE_BYTES], is_speech=True)
        await asyncio.sleep(0)  # another call's turn
    state, metrics = await analyzer.analyze_end_of_turn()
    analyzer.clear()
    return state, metrics.probability


@pytest.fixture(scope="module")
def cuts():
    """Forty-two turns of six voices, cut off and whole, some longer than the 8 s that the model hears."""
    turns = []
    for voice in VOICES:
        whole = telephone(speak(PIZZAS, voice))
        turns += [whole[: int(seconds * SAMPLE_RATE) * 2] for seconds in CUTS_S]
        turns += [whole + bytes(6400), whole + whole]
    return turns


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """What is judged counts, however busy the machine is."""
    monkeypatch.setattr(smart_turn, "DECIDED_WITHIN_S", 60)


async def test_the_model_gives_pipecats_probabilities(cuts, monkeypatch):
    """If it runs in ONNX Runtime, as Pipecat's does."""
    with as_file(smart_turn.MODEL) as path:
        session = onnxruntime.InferenceSession(path)

    def probability(audio):
        features = log_mel(audio.astype(np.float32) * smart_turn.FULL_SCALE)
        return session.run(None, {"input_features": features[np.newaxis]})[0].item()

    monkeypatch.setattr(smart_turn, "probability", probability)
    theirs = LocalSmartTurnAnalyzerV3()
    expected = [await verdict(theirs, pcm) for pcm in cuts]
    assert {state for state, _ in expected} == set(EndOfTurnState)
    for pcm, (state, sure) in zip(cuts, expected, strict=True):
        assert await verdict(SharedSmartTurn(), pcm) == (state, pytest.approx(sure, abs=1e-3))
    await theirs.cleanup()


async def test_a_turn_ends_where_pipecat_says(cuts):
    """OpenVINO rounds the model's 8-bit numbers otherwise: as sure within 0.25, and mostly within 0.05."""
    theirs = LocalSmartTurnAnalyzerV3()
    expected = [await verdict(theirs, pcm) for pcm in cuts]
    await theirs.cleanup()
    found = await asyncio.gather(*(verdict(SharedSmartTurn(), pcm) for pcm in cuts))
    differences = [abs(ours - sure) for (_, ours), (_, sure) in zip(found, expected, strict=True)]
    assert max(differences) < 0.25
    assert np.median(differences) < 0.05
    for (ours, _), (state, sure) in zip(found, expected, strict=True):
        assert ours is state or abs(sure - smart_turn.SURE) < 0.25


class RecordedTurn(BaseSmartTurn):
    """Pipecat's own choice of the audio that its model would hear."""

    def _predict_endpoint(self, audio_array):
        self.audio = audio_array
        return {"prediction": 0, "probability": 0.0}


@pytest.mark.parametrize("seed", range(6))
async def test_the_model_hears_what_pipecats_would(seed, monkeypatch):
    """From shortly before the speech, at most 8 s; in time, which for Pipecat is the clock's."""
    dice = np.random.default_rng(seed)
    samples = 0
    clock = SimpleNamespace(monotonic=lambda: 1000 + samples / SAMPLE_RATE, perf_counter=lambda: 0.0)
    monkeypatch.setattr(base_smart_turn, "time", clock)
    params = SmartTurnParams(stop_secs=2)
    theirs, ours = RecordedTurn(params=params), smart_turn.Turn(params)
    theirs.set_sample_rate(SAMPLE_RATE)
    theirs.update_vad_start_secs(0.2)
    speaks, ended, compared = False, 0, 0
    for _ in range(400):
        if dice.random() < (0.1 if speaks else 0.06):
            speaks = not speaks
            if not speaks and ours.has_speech:
                await theirs.analyze_end_of_turn()
                found = ours.audio(0.2).astype(np.float32) * smart_turn.FULL_SCALE
                np.testing.assert_array_equal(found, theirs.audio)
                compared += 1
        piece = dice.integers(-99, 99, int(dice.choice([2048, 4096]))).astype("<i2").tobytes()
        samples += len(piece) // 2
        is_over = theirs.append_audio(piece, speaks) is EndOfTurnState.COMPLETE
        assert ours.add(piece, is_speech=speaks) is is_over
        if is_over:
            ours.clear()
            ended += 1
        assert ours.has_speech is theirs.speech_triggered
    assert compared > 5
    assert ended > 1
    await theirs.cleanup()


async def test_a_decision_that_is_late_is_the_pauses(monkeypatch):
    """Of a machine that is not up to its calls: no call's audio waits for it, and it is not made any more."""
    asked, free = [], threading.Event()
    monkeypatch.setattr(smart_turn, "DECIDED_WITHIN_S", 0.01)
    monkeypatch.setattr(smart_turn, "probability", lambda audio: asked.append(audio) or 0.0)
    other = smart_turn._executor().submit(free.wait, 10)
    ours = SharedSmartTurn()
    ours.append_audio(bytes(6400), is_speech=True)
    try:
        assert await ours.analyze_end_of_turn() == (EndOfTurnState.COMPLETE, None)
    finally:
        free.set()
    assert await asyncio.wrap_future(other)
    assert await asyncio.wrap_future(smart_turn._executor().submit(lambda: asked)) == []
    assert not ours.speech_triggered


async def test_a_turn_without_audio_is_not_over():
    assert await SharedSmartTurn().analyze_end_of_turn() == (EndOfTurnState.INCOMPLETE, None)


async def test_silence_ends_a_turn_whatever_the_model_would_say():
    turn = SharedSmartTurn(SmartTurnParams(stop_secs=1))
    second = bytes(SAMPLE_RATE * 2)
    assert turn.append_audio(second, is_speech=False) is EndOfTurnState.INCOMPLETE  # nobody has spoken yet
    assert turn.append_audio(second, is_speech=True) is EndOfTurnState.INCOMPLETE
    assert turn.speech_triggered
    assert turn.append_audio(second, is_speech=False) is EndOfTurnState.COMPLETE
    assert not turn.speech_triggered


async def test_no_call_loads_the_model(monkeypatch):
    smart_turn.warm()

    def refuse(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(openvino, "Core", refuse)
    state, probability = await verdict(SharedSmartTurn(), bytes(SAMPLE_RATE))
    assert state in EndOfTurnState
    assert 0 <= probability <= 1
