"""Whether the caller speaks: the states are Pipecat's, window by window, and the model gives its verdicts.

A failure here after an upgrade of Pipecat says that its rules or its model changed, on which ours are built.
"""

import asyncio
from itertools import groupby, zip_longest

import numpy as np
import onnxruntime
import pytest
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState
from pipecat.audio.volume import AudioVolumeTracker

from calls.audio.format import SAMPLE_RATE
from calls.pipeline import silero
from calls.pipeline.silero import WINDOW, RecurrentState
from calls.pipeline.vad import WINDOW_BYTES, SharedSileroVAD, VoiceActivity
from calls.simulator.line import LINES
from calls.simulator.voices import VOICES, speak

PIZZAS = "I would like to order two large pizzas."  # without a pause
START, STOP = 6, 6  # windows of speech that begin it, and of silence that end it
EARLIER = 3  # windows
HOURS = "Please tell me about your opening hours on Sunday."
EAGER = VADParams(confidence=0.5, start_secs=0.1, stop_secs=0.4, min_volume=0.45)


def on_the_phone(*parts, voice="hibari", line="clean"):
    """Speech (a text) and pauses (seconds) on a line that is never quite silent."""
    noise = np.random.default_rng(7)
    quiet = bytes(SAMPLE_RATE // 5 * 2)
    pcm = b"".join(
        (quiet + speak(part, voice) + quiet) if isinstance(part, str) else bytes(int(part * SAMPLE_RATE) * 2)
        for part in parts
    )
    pcm = LINES[line](pcm[: len(pcm) // WINDOW_BYTES * WINDOW_BYTES])
    samples = np.frombuffer(pcm, "<i2").astype(int) + noise.integers(-8, 9, len(pcm) // 2)
    return np.clip(samples, -32768, 32767).astype("<i2").tobytes()


def windows(pcm):
    return [pcm[i : i + WINDOW_BYTES] for i in range(0, len(pcm), WINDOW_BYTES)]


class PipecatsVAD(SileroVADAnalyzer):
    """Pipecat's own analyser, with its last confidence where the shared one has it."""

    def __init__(self, params=None):
        super().__init__(params=params)
        self.set_sample_rate(SAMPLE_RATE)

    def voice_confidence(self, buffer):
        self.confidence = float(np.squeeze(super().voice_confidence(buffer)))
        return self.confidence


class ScriptedVAD(VADAnalyzer):
    """Pipecat's states, from confidences that are given."""

    def __init__(self, params):
        super().__init__(sample_rate=SAMPLE_RATE, params=params)
        self.set_sample_rate(SAMPLE_RATE)

    def num_frames_required(self):
        return WINDOW

    def voice_confidence(self, buffer):
        return self.confidence


# --- The states -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["telephone", "noise-20", "noise-10", "quiet"])
@pytest.mark.parametrize("voice", VOICES)
async def test_the_states_are_pipecats_window_by_window(voice, line):
    pcm = on_the_phone(0.5, HOURS, 0.3, PIZZAS, 0.5, voice=voice, line=line)
    seen = set()
    for params in (VADParams(), EAGER):
        theirs, ours, volume = PipecatsVAD(params), VoiceActivity(params), AudioVolumeTracker()
        for window in windows(pcm):
            state = await theirs.analyze_audio(window)
            volume.update(window, SAMPLE_RATE)
            assert ours.update(theirs.confidence, volume.volume) is state
            seen.add(state)
        await theirs.cleanup()
    assert seen == set(VADState) or line == "quiet"


@pytest.mark.parametrize(
    ("start", "stop"), [(0.2, 0.2), (0.0, 0.0), (0.032, 0.3), (0.5, 0.064), (0.08, 0.112)]
)
async def test_the_states_of_any_confidences_are_pipecats(start, stop):
    """So are those of a voice that comes and goes, and rises and falls."""
    dice = np.random.default_rng(round(start * 1000 + stop))
    params = VADParams(start_secs=start, stop_secs=stop)
    theirs, ours, volume = ScriptedVAD(params), VoiceActivity(params), AudioVolumeTracker()
    seen = set()
    speaks, loud = False, 3000
    for _ in range(600):
        if dice.random() < 0.15:
            speaks = not speaks
        if dice.random() < 0.05:
            loud = int(dice.choice([30, 300, 3000]))
        theirs.confidence = float(dice.choice([0.7, 0.95]) if speaks else dice.choice([0.0, 0.69]))
        window = dice.integers(-loud, loud, WINDOW).astype("<i2").tobytes()
        volume.update(window, SAMPLE_RATE)
        state = await theirs.analyze_audio(window)
        assert ours.update(theirs.confidence, volume.volume) is state
        seen.add(state)
    assert {VADState.QUIET, VADState.SPEAKING} <= seen
    await theirs.cleanup()


# --- The model --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["telephone", "noise-10"])
@pytest.mark.parametrize("voice", VOICES)
async def test_the_model_gives_pipecats_confidences(voice, line):
    """It is reset where Pipecat's is, too: in the pauses of more than two seconds."""
    pcm = on_the_phone(2.5, HOURS, 2.5, PIZZAS, 0.5, voice=voice, line=line)
    theirs, memory, state = PipecatsVAD(), RecurrentState(), VADState.QUIET
    for window in windows(pcm):
        quiet = state is VADState.QUIET
        state = await theirs.analyze_audio(window)
        samples = np.frombuffer(window, np.int16) / np.float32(32768)
        (confidence,) = silero.run([silero.Item(memory, samples, lambda _: None)])
        assert confidence == pytest.approx(theirs.confidence, abs=1e-5)
        memory.reset_if_due(confidence, quiet=quiet)
    await theirs.cleanup()


# --- A call -----------------------------------------------------------------------------------------------


async def verdicts(analyzer, pcm):
    """The state and the confidence after each window."""
    said = []
    for window in windows(pcm):
        state = await judged(analyzer, window)
        said.append((state, analyzer.confidence))
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


def assert_same_places(found, expected):
    """Speech begins in the same places or up to 200 ms earlier, and ends there or up to 100 ms earlier.

    Loudness is taken in another way, and quiet windows are not judged: both may move speech by a window. The
    model has heard other silence before the first word. The end is heard earlier, as Silero goes on to hear a
    voice for a while.
    """
    assert spoken(found)
    for (begin, end), (their_begin, their_end) in zip_longest(spoken(found), spoken(expected)):
        assert their_begin - START <= begin <= their_begin + 1
        assert their_end - EARLIER <= end <= their_end


def assert_same(found, expected):
    """Speech is in the same places, and there the model is as sure of it."""
    assert_same_places(found, expected)
    for (our_begin, end), (their_begin, _) in zip_longest(spoken(found), spoken(expected)):
        begin = max(our_begin, their_begin)
        pairs = zip(found[begin : end - STOP], expected[begin : end - STOP], strict=True)
        judged_by_both = [(ours, theirs) for (_, ours), (_, theirs) in pairs if ours]
        assert len(judged_by_both) > 0.8 * (end - STOP - begin)
        for ours, theirs in judged_by_both:
            assert ours == pytest.approx(theirs, abs=0.1)


@pytest.fixture(scope="module")
def calls():
    return [on_the_phone(0.5, PIZZAS, 2.2, HOURS, 0.5), on_the_phone(1.1, HOURS, 0.4, PIZZAS, 0.8)]


@pytest.mark.parametrize("line", ["telephone", "noise-20"])
@pytest.mark.parametrize("voice", VOICES)
async def test_speech_is_found_where_pipecat_finds_it(voice, line):
    pcm = on_the_phone(0.5, HOURS, 2.2, PIZZAS, 0.5, voice=voice, line=line)
    theirs, ours = PipecatsVAD(), SharedSileroVAD(VADParams())
    assert_same_places(await verdicts(ours, pcm), await verdicts(theirs, pcm))
    await theirs.cleanup()


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
    whole = silero.run
    monkeypatch.setattr(silero, "run", lambda batch: judged_by_model.extend(batch) or whole(batch))
    analyzer = SharedSileroVAD()
    quiet = await verdicts(analyzer, bytes(WINDOW_BYTES * 50) + on_the_phone(3.0))
    assert {state for state, _ in quiet} == {VADState.QUIET}
    assert not judged_by_model
    speech = on_the_phone(PIZZAS, 0.5)
    assert_same(await verdicts(analyzer, speech), await verdicts(PipecatsVAD(), speech))
    assert judged_by_model


async def test_a_model_that_fails_is_named_and_the_call_goes_on(monkeypatch, caplog):
    monkeypatch.setattr(silero, "_session", lambda: None)
    assert {state for state, _ in await verdicts(SharedSileroVAD(), on_the_phone(PIZZAS))} == {VADState.QUIET}
    assert "could not be judged: AttributeError" in caplog.text


def test_no_call_loads_the_model(monkeypatch):
    silero.warm()

    def refuse(*args, **kwargs):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    SharedSileroVAD()
    silero.warm()
