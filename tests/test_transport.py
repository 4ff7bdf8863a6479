"""The caller's voice in pieces of 128 ms, the agent's 20 ms at a time, and frames in their place among it."""

import asyncio
from itertools import pairwise

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMFullResponseEndFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.utils.text.base_text_aggregator import TextType

from calls.audio.beat import BEAT_S
from calls.audio.format import FRAME_BYTES, SAMPLE_RATE, VoiceOut
from calls.pipeline import input as entrance_module
from calls.pipeline.input import PIECE_BYTES, QUIET_PIECE_BYTES, RustPBXInput
from calls.pipeline.output import RustPBXOutput
from calls.pipeline.playout import MOST_BEHIND_S, SILENT_S, Playout
from calls.pipeline.vad import WINDOW, WINDOW_BYTES, SharedSileroVAD
from calls.providers.frames import CallerPausedFrame
from tests.e2e.speech import say
from tests.provider_harness import running
from tests.virtual_time import VirtualTime

NEWS = (CallerPausedFrame, VADUserStoppedSpeakingFrame)  # that audio does not wait for
FRAME_S = 0.02
NS = 1_000_000_000


def voice(frames, first=1):
    """So many 20 ms frames, the samples of each being its number."""
    return b"".join(np.full(FRAME_BYTES // 2, n, "<i2").tobytes() for n in range(first, first + frames))


def numbers(sent):
    """The numbers of the frames sent, by their first sample."""
    return [int(np.frombuffer(pcm, "<i2")[0]) for pcm in sent]


# --- The caller's voice -----------------------------------------------------------------------------------


def line_noise(seconds):
    """A caller who listens: the faint noise of a telephone line, in whole windows of the VAD."""
    samples = round(seconds * SAMPLE_RATE) // WINDOW * WINDOW
    return np.random.default_rng(3).integers(-8, 9, samples).astype("<i2").tobytes()


def gathered(frames):
    """All audio in these frames, which must be of the format the pipeline was promised."""
    assert {(frame.sample_rate, frame.num_channels) for frame in frames} == {(SAMPLE_RATE, 1)}
    return b"".join(frame.audio for frame in frames)


async def test_a_silent_callers_line_goes_on_in_pieces_of_256_ms():
    entrance = RustPBXInput(SharedSileroVAD())
    pcm = (np.arange(QUIET_PIECE_BYTES) % 8).astype("<i2").tobytes()
    async with running(entrance) as line:
        for start, end in [(0, 320), (320, 960), (960, 3000), (3000, 3002), (3002, len(pcm))]:
            entrance.feed(pcm[start:end])
        entrance.feed(b"\1\0")
        await line.out.first(InputAudioRawFrame, count=2)
        frames = line.out.of(InputAudioRawFrame)
    assert [len(frame.audio) for frame in frames] == [QUIET_PIECE_BYTES] * 2
    assert gathered(frames) == pcm


async def test_a_speaking_callers_voice_goes_on_in_pieces_of_128_ms():
    entrance = RustPBXInput(SharedSileroVAD())
    async with running(entrance) as line:
        entrance.feed(line_noise(0.6) + say("Please tell me about your opening hours on Sunday."))
        await line.out.first(VADUserStoppedSpeakingFrame)
        frames = line.out.of(InputAudioRawFrame, VADUserStartedSpeakingFrame, *NEWS)
    began = [type(frame) for frame in frames].index(VADUserStartedSpeakingFrame)
    pieces = 0
    for frame, following in pairwise(frames[began + 1 :]):
        if isinstance(frame, InputAudioRawFrame):
            pieces += 1
            assert len(frame.audio) == PIECE_BYTES or isinstance(following, NEWS)
    assert pieces > 10
    assert [type(frame) for frame in frames[-3:] if isinstance(frame, NEWS)] == list(NEWS)


async def test_a_pause_is_told_with_all_that_was_said_before_it():
    entrance = RustPBXInput(SharedSileroVAD())
    pcm = line_noise(0.6) + say("Please tell me about your opening hours.") + line_noise(0.5)
    async with running(entrance) as line:
        entrance.feed(pcm)
        await line.out.first(VADUserStoppedSpeakingFrame)
        frames = line.out.of(InputAudioRawFrame, CallerPausedFrame, VADUserStoppedSpeakingFrame)
    paused = [n for n, frame in enumerate(frames) if isinstance(frame, CallerPausedFrame)]
    (stopped,) = [n for n, frame in enumerate(frames) if isinstance(frame, VADUserStoppedSpeakingFrame)]
    # The last pause is the end of speech: between the two there is silence, as much as that takes.
    after = gathered(frames[paused[-1] + 1 : stopped])
    assert 0.09 * SAMPLE_RATE * 2 <= len(after) <= 0.2 * SAMPLE_RATE * 2
    assert np.abs(np.frombuffer(after, "<i2").astype(int)).max() < 300


async def test_what_was_said_before_the_pipeline_started_is_not_lost():
    entrance = RustPBXInput(SharedSileroVAD())
    pcm = line_noise(1.024)
    entrance.feed(pcm)
    async with running(entrance) as line:
        await line.out.first(InputAudioRawFrame, count=4)
        assert gathered(line.out.of(InputAudioRawFrame)) == pcm


async def test_speech_starts_and_stops_among_the_audio_it_was_heard_in():
    """Everything up to the verdict goes on before it, and nothing is lost or comes twice."""
    entrance = RustPBXInput(SharedSileroVAD())
    speech = say("Please tell me about your opening hours on Sunday.")  # without a pause
    pcm = line_noise(0.6) + speech[: len(speech) // WINDOW_BYTES * WINDOW_BYTES] + line_noise(0.9)
    async with running(entrance) as line:
        for start in range(0, len(pcm), 320):
            entrance.feed(pcm[start : start + 320])
            await asyncio.sleep(0)
        await line.out.first(VADUserStoppedSpeakingFrame)
        frames = line.out.of(InputAudioRawFrame, VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)
    news = [frame for frame in frames if not isinstance(frame, InputAudioRawFrame)]
    assert [type(frame) for frame in news] == [VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame]
    assert (news[0].start_secs, news[1].stop_secs) == (0.2, 0.2)
    audio = gathered([frame for frame in frames if isinstance(frame, InputAudioRawFrame)])
    assert pcm.startswith(audio)
    before = gathered(frames[: frames.index(news[0])])
    assert 0.8 * SAMPLE_RATE * 2 <= len(before) < 1.7 * SAMPLE_RATE * 2  # the voice begins softly
    assert len(audio) >= len(pcm) - 1.6 * SAMPLE_RATE * 2  # the voice ends in silence of its own


async def test_a_caller_whose_audio_stops_in_mid_speech_has_stopped_speaking(monkeypatch):
    monkeypatch.setattr(entrance_module, "MUTED_S", 0.2)
    entrance = RustPBXInput(SharedSileroVAD())
    speech = say("Hello, I would like to order two large pizzas.")
    async with running(entrance) as line:
        entrance.feed(line_noise(0.6) + speech[: SAMPLE_RATE * 2])
        await line.out.first(VADUserStoppedSpeakingFrame)
        news = line.out.of(VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)
        assert [type(frame) for frame in news] == [VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame]


# --- The agent's voice, in a pipeline ---------------------------------------------------------------------


class Phone:
    """What was sent to the client; each frame also notes how many pipeline frames had come out by then."""

    def __init__(self):
        self.sent = []
        self.enough = asyncio.Event()
        self.wanted = 1

    async def __call__(self, pcm):
        self.sent.append(pcm)
        if len(self.sent) >= self.wanted:
            self.enough.set()

    async def heard(self, frames):
        self.wanted = frames
        if len(self.sent) < frames:
            self.enough.clear()
            await asyncio.wait_for(self.enough.wait(), 10)


@pytest.fixture
def phone():
    return Phone()


def spoken(pcm, rate=SAMPLE_RATE, *, interruptible=True):
    frame = TTSAudioRawFrame(pcm, rate, 1)
    frame.interruptible = interruptible
    return frame


async def test_voice_of_any_length_leaves_20_ms_at_a_time(phone):
    pcm = voice(7)
    async with running(RustPBXOutput(phone)) as line:
        await line.send(TTSStartedFrame(), spoken(pcm[:100]), spoken(pcm[100:3000]), spoken(pcm[3000:4000]))
        await line.send(TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame)
    assert {len(frame) for frame in phone.sent} == {FRAME_BYTES}
    assert b"".join(phone.sent) == pcm[:4000].ljust(7 * FRAME_BYTES, b"\0")


async def test_the_pipeline_hears_when_the_agent_speaks(phone):
    """Both ways, once a talkspurt, and frames behind the voice stay behind it."""
    async with running(RustPBXOutput(phone)) as line:
        await line.send(TTSStartedFrame(), spoken(voice(5)), TTSStoppedFrame(), LLMFullResponseEndFrame())
        await line.out.first(LLMFullResponseEndFrame)
        assert len(phone.sent) == 5
        kinds = [type(frame) for frame in line.out.frames]
        await line.send(spoken(voice(2)), TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame, count=2)
    expected = [TTSStartedFrame, BotStartedSpeakingFrame, BotStoppedSpeakingFrame, TTSStoppedFrame]
    assert [kind for kind in kinds if kind in (*expected, LLMFullResponseEndFrame)] == [
        *expected,
        LLMFullResponseEndFrame,
    ]
    assert len(line.back.of(BotStartedSpeakingFrame)) == len(line.back.of(BotStoppedSpeakingFrame)) == 2
    assert not line.out.of(TTSAudioRawFrame)  # nobody behind the output needs it


async def test_a_voice_at_another_rate(phone):
    async with running(RustPBXOutput(phone)) as line:
        second = np.sin(np.arange(24_000) / 24_000 * 2 * np.pi * 440) * 10_000
        await line.send(spoken(second.astype("<i2").tobytes(), 24_000), TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame)
    samples = np.frombuffer(b"".join(phone.sent), "<i2")
    assert len(samples) == pytest.approx(SAMPLE_RATE, abs=1600)
    spectrum = np.abs(np.fft.rfft(samples[:8000]))
    assert spectrum.argmax() * 2 == pytest.approx(440, abs=4)  # Hz


async def test_a_telephone_of_8_khz_gets_160_samples_every_20_ms(phone):
    async with running(RustPBXOutput(phone, VoiceOut(8000))) as line:
        pcm = voice(5)
        await line.send(spoken(pcm[:100], 8000), spoken(pcm[100:3000], 8000), TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame)
    assert {len(frame) for frame in phone.sent} == {320}
    assert b"".join(phone.sent) == pcm[:3000].ljust(10 * 320, b"\0")


@pytest.mark.parametrize("rate", [8000, SAMPLE_RATE])
async def test_a_voice_at_another_rate_is_heard_to_its_last_sample(phone, rate):
    """Its pieces come as fast as they are made, or slowly; what a filter holds back comes with the end."""
    seconds = np.arange(24_000) / 24_000
    made = (np.sin(seconds * 2 * np.pi * 440) * 10_000).astype("<i2").tobytes()
    async with running(RustPBXOutput(phone, VoiceOut(rate))) as line:
        await line.send(spoken(made[:20_000], 24_000))
        await phone.heard(8)  # 0.16 s later
        await line.send(spoken(made[20_000:], 24_000), TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame)
    heard = np.frombuffer(b"".join(phone.sent), "<i2")
    wanted = np.sin(np.arange(rate) / rate * 2 * np.pi * 440) * 10_000
    assert rate <= len(heard) <= rate + rate // 50
    assert np.abs(heard[:rate] - wanted)[rate // 100 : -rate // 100].max() < 100


async def test_what_a_filter_holds_of_an_interrupted_voice_is_not_heard_later(phone):
    loud = np.full(24_000, 20_000, "<i2").tobytes()
    async with running(RustPBXOutput(phone)) as line:
        await line.send(spoken(loud, 24_000))
        await phone.heard(3)
        await line.send(InterruptionFrame())
        await line.out.first(BotStoppedSpeakingFrame)
        cut = len(phone.sent)
        await line.send(spoken(bytes(9_600), 24_000), TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame, count=2)
    assert np.abs(np.frombuffer(b"".join(phone.sent[cut:]), "<i2")).max() < 10


async def test_an_interruption_drops_what_may_be_dropped(phone):
    async with running(RustPBXOutput(phone)) as line:
        await line.send(spoken(voice(500)))
        await phone.heard(3)
        await line.send(InterruptionFrame())
        await line.out.first(BotStoppedSpeakingFrame)
        cut = len(phone.sent)
        await line.send(spoken(voice(4, first=1000)), TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame, count=2)
    heard = numbers(phone.sent)
    assert heard[-4:] == list(range(1000, 1004))
    assert heard[:-4] == list(range(1, len(heard) - 3))
    assert len(heard) - 4 <= cut + 1 < 50  # one may have been on its way


async def test_an_interruption_leaves_what_may_not_be_interrupted(phone):
    async with running(RustPBXOutput(phone)) as line:
        await line.send(spoken(voice(10), interruptible=False), spoken(voice(10, first=100)))
        await phone.heard(2)
        await line.send(InterruptionFrame())
        await line.out.first(InterruptionFrame)
        assert line.out.of(BotStoppedSpeakingFrame) == []
        await line.send(TTSStoppedFrame())
        await line.out.first(BotStoppedSpeakingFrame)
    assert numbers(phone.sent) == list(range(1, 11))


async def test_words_a_nanosecond_apart_keep_their_order(phone):
    """The turn's text is gathered one nanosecond after its last word, and must not lack it."""
    output = RustPBXOutput(phone)
    async with running(output) as line:
        now = output.get_clock().get_time()
        expected = []
        for n in range(200):
            frame = (
                TTSTextFrame(f"word {n}", TextType.WORD) if n % 2 == 0 else LLMAssistantPushAggregationFrame()
            )
            frame.pts = now + 50_000_000 + n
            expected.append(frame)
        await line.send(*expected)
        await line.out.first(LLMAssistantPushAggregationFrame, count=100)
        assert line.out.of(TTSTextFrame, LLMAssistantPushAggregationFrame) == expected


# --- Pacing, on a clock of its own ------------------------------------------------------------------------


class Played:
    """A Playout that runs, and when each thing left it, in s from the start."""

    def __init__(self):
        self.log = []
        self.stalls = {}  # seconds that sending takes, by the number of the frame
        self.start = asyncio.get_running_loop().time()
        self.playout = Playout(self.send, self.release, self.begun, self.silent, self.clock)
        self.tasks = [asyncio.create_task(work) for work in (self.playout.play(), self.playout.keep_time())]

    def clock(self):
        return round(asyncio.get_running_loop().time() * 1e9)

    def note(self, what):
        self.log.append((round(asyncio.get_running_loop().time() - self.start, 6), what))

    async def send(self, pcm):
        (number,) = numbers([pcm])
        self.note(number)
        await asyncio.sleep(self.stalls.get(number, 0))

    async def release(self, frame):
        self.note(frame)

    async def begun(self):
        self.note("begun")

    async def silent(self):
        self.note("silent")
        self.playout.stopped()

    @property
    def voice(self):
        return [(at, what) for at, what in self.log if isinstance(what, int)]


def on_virtual_time(script):
    """Run `script(played)` with a Playout, to the end; no time passes."""

    async def main():
        played = Played()
        await script(played)
        for task in played.tasks:
            task.cancel()
        return played

    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        return runner.run(main())


def test_a_frame_every_20_ms_without_drift():
    async def script(played):
        played.stalls = dict.fromkeys(range(1, 501), 0.003)  # sending takes a while, too
        for n in range(1, 501, 5):
            played.playout.voice(voice(5, first=n), interruptible=True)
        await played.playout.drained()

    played = on_virtual_time(script)
    assert played.voice == [(pytest.approx(FRAME_S * n), n + 1) for n in range(500)]


def test_a_short_stall_is_made_up():
    async def script(played):
        played.stalls = {5: 0.05}
        played.playout.voice(voice(20), interruptible=True)
        await played.playout.drained()

    played = on_virtual_time(script)
    late = [at - FRAME_S * (n - 1) for at, n in played.voice]
    assert late[5] == pytest.approx(0.03)
    assert late[8:] == pytest.approx([0.0] * 12)


def test_a_long_stall_is_no_burst():
    """Never more than three frames ahead of their time: the clock starts anew."""

    async def script(played):
        played.stalls = {5: 1.0}
        played.playout.voice(voice(50), interruptible=True)
        await played.playout.drained()

    times = [at for at, _ in on_virtual_time(script).voice]
    most_at_once = max(sum(1 for at in times if now <= at < now + 0.001) for now in times)
    assert most_at_once <= 1 + MOST_BEHIND_S / FRAME_S
    assert times[-1] - times[5] >= (50 - 6) * FRAME_S - MOST_BEHIND_S


def test_a_new_talkspurt_starts_at_once_on_a_clock_of_its_own():
    async def script(played):
        played.playout.voice(voice(3), interruptible=True)
        await played.playout.drained()
        played.playout.stopped()
        await asyncio.sleep(0.1234)
        played.playout.voice(voice(3, first=10), interruptible=True)
        await played.playout.drained()

    played = on_virtual_time(script)
    assert [what for _, what in played.log if isinstance(what, str)] == ["begun", "begun"]
    first, second = played.voice[:3], played.voice[3:]
    assert [n for _, n in second] == [10, 11, 12]
    assert second[0][0] - first[-1][0] == pytest.approx(0.1234, abs=FRAME_S)
    begin, *rest = (at for at, _ in second)
    assert rest[0] - begin == pytest.approx(FRAME_S, abs=BEAT_S / 2 + 1e-9)
    assert rest[1] - rest[0] == pytest.approx(FRAME_S)


def test_voice_that_runs_dry_is_over_after_three_seconds():
    async def script(played):
        played.playout.voice(voice(2), interruptible=True)
        await asyncio.sleep(SILENT_S - 0.1)
        played.playout.voice(voice(1, first=3), interruptible=True)
        await asyncio.sleep(2 * SILENT_S)

    (over,) = [at for at, what in on_virtual_time(script).log if what == "silent"]
    assert over == pytest.approx(2 * SILENT_S - 0.1, abs=0.05)


def test_frames_leave_in_their_place_and_at_their_time():
    behind, word, late = (TTSTextFrame(text, TextType.WORD) for text in ("behind", "word", "late"))

    async def script(played):
        played.playout.voice(voice(5), interruptible=True)
        played.playout.frame(behind)
        played.playout.voice(voice(5, first=6), interruptible=True)
        played.playout.timed(late, played.clock() - NS)
        played.playout.timed(word, played.clock() + NS // 20)
        await played.playout.drained()

    played = on_virtual_time(script)
    order = [what for _, what in played.log if what not in ("begun", word, late)]
    assert order == [1, 2, 3, 4, 5, behind, 6, 7, 8, 9, 10]
    left_at = {what.text: at for at, what in played.log if what in (word, late)}
    assert left_at == {"late": 0.0, "word": pytest.approx(0.05)}
