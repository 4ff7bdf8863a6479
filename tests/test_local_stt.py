"""The embedded speech-to-text as a service: right words, in time, in turn, and none that were not spoken."""

import asyncio
import itertools
import os
import random
import time

import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    MetricsFrame,
    STTMetadataFrame,
    STTMuteFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData

from calls.pipeline.hearing import HeardWords
from calls.providers import catalogue
from calls.providers.frames import CallerPausedFrame, SpeechTranscribedFrame
from calls.providers.local import phantoms, stt
from calls.providers.local.moonshine import TINY
from calls.simulator.line import telephone
from calls.simulator.voices import speak
from calls.simulator.words import word_error_rate, word_errors, words_of
from tests.provider_harness import HANG_SECONDS, running

SENTENCES = [
    "What is the capital of France?",
    "Please tell me about your opening hours.",
    "I would like to order two large pizzas.",
    "Can you help me with my account?",
    "Are you open on Sunday?",
]


@pytest.fixture(autouse=True)
async def closed():
    yield
    await stt.close()


def said(sentence, voice="hibari"):
    """The sentence over a telephone, with 0.3 s of silence before it and 0.2 s after."""
    return bytes(9600) + telephone(speak(sentence, voice)) + bytes(6400)


def make():
    return catalogue.create("stt", "local", {}, language="en")


def started():
    return VADUserStartedSpeakingFrame(start_secs=0.2)


def stopped():
    return VADUserStoppedSpeakingFrame(stop_secs=0.2, timestamp=time.time())


async def utter(line, sentence, detected_after=0.5):
    """Speak a sentence whose start is detected as late as a voice activity detector does."""
    pcm = said(sentence)
    cut = int(detected_after * 32000)
    await line.speak(pcm[:cut])
    await line.send(started())
    await line.speak(pcm[cut:])
    await line.send(stopped())


async def test_voices_of_a_telephone_are_recognised():
    errors = count = 0
    utterances = [(sentence, voice) for voice in ("hibari", "rms", "awb", "espeak") for sentence in SENTENCES]
    async with running(make()) as line:
        for number, (sentence, voice) in enumerate(utterances, 1):
            await line.send(started())
            await line.speak(said(sentence, voice))
            await line.send(stopped())
            frame = await line.out.first(TranscriptionFrame, number)
            wrong, words = word_errors(sentence, frame.text)
            errors, count = errors + wrong, count + words
            assert frame.finalized
            assert frame.language == "en"
    assert errors / count <= 0.15
    assert len(line.out.of(TranscriptionFrame)) == len(line.out.of(SpeechTranscribedFrame)) == len(utterances)
    assert not line.back.of(ErrorFrame)


async def test_case_and_punctuation_come_with_the_words():
    async with running(make()) as line:
        await utter(line, "What is the capital of France?")
        frame = await line.out.first(TranscriptionFrame)
    assert frame.text == "What is the capital of France?"


async def test_the_first_word_is_kept_by_the_pre_roll():
    async with running(make()) as line:
        await utter(line, "Please tell me about your opening hours.", detected_after=0.7)
        frame = await line.out.first(TranscriptionFrame)
    assert words_of(frame.text)[:2] == ["please", "tell"]


async def test_speech_before_the_pre_roll_is_not_recognised():
    async with running(make()) as line:
        await line.speak(said("What is the capital of France?") + bytes(32000))
        await utter(line, "Are you open on Sunday?")
        frame = await line.out.first(TranscriptionFrame)
    assert "france" not in words_of(frame.text)


@pytest.fixture
def glances(monkeypatch):
    """Counts the looks at what is being said that are over."""
    over, glance = asyncio.Queue(), stt.Desk.glance

    async def counted(*args):
        transcript = await glance(*args)
        over.put_nowait(transcript)
        return transcript

    monkeypatch.setattr(stt.Desk, "glance", counted)
    return over


async def test_partial_words_come_every_half_second_while_the_caller_speaks(glances):
    await stt.warm()
    async with running(make()) as line:
        pcm = said("Please tell me about your opening hours.")
        await line.send(started())
        for begin in range(0, len(pcm), 16000):
            await line.speak(pcm[begin : begin + 16000])
            if len(pcm) - begin >= 16000:
                await asyncio.wait_for(glances.get(), HANG_SECONDS)
        partials = [f.text for f in line.out.of(InterimTranscriptionFrame)]
        assert not line.out.of(TranscriptionFrame)
    assert len(partials) >= 3
    assert "your opening" in partials[-1]
    assert all(a != b for a, b in itertools.pairwise(partials))


async def test_what_is_said_before_a_pause_is_known_when_it_proves_to_be_the_end(monkeypatch):
    """The words are looked for in the pause; nothing is left to be done when speech is over."""
    await stt.warm()
    finals = []
    transcribe = stt.Desk.transcribe
    monkeypatch.setattr(stt.Desk, "transcribe", lambda *args: finals.append(args) or transcribe(*args))
    async with running(make()) as line:
        await line.send(started())
        await line.speak(said(SENTENCES[0]))
        await line.send(CallerPausedFrame())
        await line.out.first(InterimTranscriptionFrame)
        await line.out.until(lambda: line.out.of(InterimTranscriptionFrame)[-1].text == SENTENCES[0])
        await line.speak(bytes(3200))
        await line.send(stopped())
        frame = await line.out.first(TranscriptionFrame)
    assert frame.text == SENTENCES[0]
    assert finals == []


async def test_speech_that_goes_on_after_a_pause_is_transcribed_whole():
    async with running(make()) as line:
        await line.send(started())
        await line.speak(said("I would like to order"))
        await line.send(CallerPausedFrame())
        await line.speak(said("two large pizzas."))
        await line.send(stopped())
        frame = await line.out.first(TranscriptionFrame)
    assert word_error_rate("I would like to order two large pizzas", frame.text) <= 0.2


async def test_audio_passes_on():
    async with running(make()) as line:
        await line.speak(bytes(6400))
        await line.out.first(InputAudioRawFrame, 10)
        assert b"".join(frame.audio for frame in line.out.of(InputAudioRawFrame)) == bytes(6400)


async def test_silence_gives_no_words_and_no_error():
    async with running(make()) as line:
        await line.send(started())
        await line.speak(bytes(32000))
        await line.send(stopped())
        await line.out.first(SpeechTranscribedFrame)
        assert not line.out.of(TranscriptionFrame, InterimTranscriptionFrame)
        await utter(line, "Are you open on Sunday?")
        frame = await line.out.first(TranscriptionFrame)
        assert "sunday" in words_of(frame.text)
    assert not line.back.of(ErrorFrame)


async def test_speech_without_audio_ends():
    async with running(make()) as line:
        await line.send(started(), stopped())
        await line.out.first(SpeechTranscribedFrame)
    assert not line.out.of(TranscriptionFrame)


async def test_an_interruption_does_not_cut_the_caller_off():
    async with running(make()) as line:
        pcm = said("I would like to order two large pizzas.")
        await line.send(started())
        await line.speak(pcm[:32000])
        await line.send(InterruptionFrame())
        await line.speak(pcm[32000:])
        await line.send(stopped())
        frame = await line.out.first(TranscriptionFrame)
    assert word_error_rate("I would like to order two large pizzas", frame.text) <= 0.2


async def test_a_muted_caller_is_not_heard():
    async with running(make()) as line:
        await line.send(STTMuteFrame(mute=True))
        await utter(line, "What is the capital of France?")
        await line.send(STTMuteFrame(mute=False))
        await utter(line, "Are you open on Sunday?")
        frame = await line.out.first(TranscriptionFrame)
    assert "sunday" in words_of(frame.text)


async def test_the_last_words_come_before_the_end():
    await stt.warm()
    async with running(make()) as line:
        pcm = said("Are you open on Sunday?")
        await line.send(started())
        await line.speak(pcm)
        # The call ends while the caller still speaks.
        await line.out.first(InputAudioRawFrame, len(pcm) // 640)
    assert "sunday" in words_of(line.out.of(TranscriptionFrame)[0].text)


async def test_the_latency_is_measured_and_announced():
    async with running(make()) as line:
        await utter(line, "Are you open on Sunday?")
        await line.out.first(TranscriptionFrame)
    measured = [d.value for f in line.out.of(MetricsFrame) for d in f.data if isinstance(d, TTFBMetricsData)]
    assert any(value > 0.2 for value in measured)
    assert line.out.of(STTMetadataFrame)[0].ttfs_p99_latency == stt.TTFS_P99_SECONDS


async def test_calls_are_recognised_at_the_same_time():
    async with running(make()) as one, running(make()) as other:
        await asyncio.gather(utter(one, SENTENCES[0]), utter(other, SENTENCES[1]))
        heard = [(await line.out.first(TranscriptionFrame)).text for line in (one, other)]
    assert word_error_rate(SENTENCES[0], heard[0]) <= 0.2
    assert word_error_rate(SENTENCES[1], heard[1]) <= 0.2


async def test_a_monologue_is_transcribed_in_pieces():
    sentences = [*SENTENCES, *SENTENCES]
    async with running(make()) as line:
        await line.send(started())
        for sentence in sentences:
            await line.speak(said(sentence)[6400:-3200])
        await line.send(stopped())
        frame = await line.out.first(TranscriptionFrame)
    assert word_error_rate(" ".join(sentences), frame.text) <= 0.15
    assert len(line.out.of(TranscriptionFrame)) == 1


async def test_words_come_in_the_order_they_were_spoken():
    """The second speech begins and ends while the first is still being transcribed."""
    async with running(make()) as line:
        for sentence in SENTENCES[:3]:
            await utter(line, sentence)
        await line.out.first(TranscriptionFrame, 3)
    for sentence, frame in zip(SENTENCES, line.out.of(TranscriptionFrame), strict=False):
        assert word_error_rate(sentence, frame.text) <= 0.2
    assert line.out.of(TranscriptionFrame)[-1].finalized


async def test_a_recogniser_that_fails_is_an_error_and_hears_the_next_sentence(monkeypatch):
    await stt.warm()
    async with running(make()) as line:
        with monkeypatch.context() as broken:
            broken.setitem(stt.threads()._models, TINY, object())
            await utter(line, SENTENCES[0])
            error = await line.back.first(ErrorFrame)
            await line.out.first(SpeechTranscribedFrame)
        assert not error.fatal
        await utter(line, SENTENCES[1])
        frame = await line.out.first(TranscriptionFrame)
    assert word_error_rate(SENTENCES[1], frame.text) <= 0.2


async def test_a_recogniser_that_hangs_is_an_error_in_time(monkeypatch, settings):
    settings.LOCAL_STT_THREADS = 1
    monkeypatch.setattr(stt, "FINAL_SECONDS", 0.2)
    await stt.warm()
    begun, held = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang():
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(held.wait(), loop).result(HANG_SECONDS)
        return True

    holder = asyncio.create_task(stt.desk().glance(bytes(32000), (), hang))
    await begun.wait()  # it has the only thread now
    try:
        async with running(make()) as line:
            await utter(line, SENTENCES[0])
            error = await line.back.first(ErrorFrame)
            assert "no words within 0.2 s" in error.error
            await line.out.first(SpeechTranscribedFrame)
    finally:
        held.set()
        await holder


@pytest.mark.parametrize("count", [0, -1])
async def test_without_a_number_of_threads_there_is_one_a_core(settings, count):
    settings.LOCAL_STT_THREADS = count
    assert stt.threads()._count == len(os.sched_getaffinity(0))


async def test_nothing_is_left_after_close():
    await stt.warm()
    assert stt.is_ready()
    async with running(make()) as line:
        await line.send(started())
        await line.speak(said(SENTENCES[0]))
    await asyncio.wait_for(stt.close(), 2)
    assert not stt.is_ready()
    await stt.close()


def test_a_new_event_loop_takes_the_threads_over():
    async def recognise():
        return (await stt.desk().transcribe(said(SENTENCES[0]))).text

    async def abandon():
        task = asyncio.create_task(stt.desk().transcribe(said(SENTENCES[1])))
        await asyncio.sleep(0)
        task.cancel()

    assert asyncio.run(recognise()) == SENTENCES[0]
    asyncio.run(abandon())
    assert asyncio.run(recognise()) == SENTENCES[0]
    asyncio.run(stt.close())


async def test_words_that_were_shown_are_not_lost(glances):
    """Three hundred stretches cut out of real sentences, begun and ended anywhere."""
    await stt.warm()
    dice = random.Random(4)
    recordings = [said(sentence, voice) for sentence in SENTENCES for voice in ("slt", "rms")]
    async with running(make(), HeardWords()) as line:
        for number in range(1, 301):
            pcm = dice.choice(recordings)
            begin = dice.randrange(0, len(pcm) // 2, 640)
            end = dice.randrange(begin + 16000, len(pcm), 640)
            before = len(line.out.frames)
            await line.send(started())
            middle = begin + (end - begin) // 2
            await line.speak(pcm[begin:middle])
            if number % 2:  # let it show words
                await line.send(CallerPausedFrame())
                await asyncio.wait_for(glances.get(), HANG_SECONDS)
            await line.speak(pcm[middle:end])
            await line.send(stopped())
            await line.out.until(
                lambda: any(
                    isinstance(f, (TranscriptionFrame, SpeechTranscribedFrame))
                    for f in line.out.frames[before:]  # noqa: B023  awaited within the iteration
                )
            )
            frames = line.out.frames[before:]
            shown = [f.text for f in frames if isinstance(f, InterimTranscriptionFrame)]
            final = [f.text for f in frames if isinstance(f, TranscriptionFrame)]
            assert final or not shown, shown
            assert all(phantoms.plain(text) for text in final)
    partials = line.out.of(InterimTranscriptionFrame)
    assert len(partials) > 100
