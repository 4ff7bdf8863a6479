"""The embedded speech-to-text: right words, in time, from processes that may die and leave nothing behind."""

import asyncio
import itertools
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

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

from calls.providers import catalogue
from calls.providers.local import stt, voice
from calls.providers.local.stt_pool import ROOT
from calls.providers.local.stt_wire import MAX_PAYLOAD, Kind, Unpacker, pack
from tests.provider_harness import HANG_SECONDS, running, word_error_rate

SENTENCES = [
    "what is the capital of france",
    "please tell me about your opening hours",
    "i would like to order two large pizzas",
    "can you help me with my account",
    "are you open on sunday",
]


@pytest.fixture(autouse=True)
async def closed():
    yield
    await stt.close()


def said(sentence):
    """The sentence in 16 kHz audio with 0.3 s of silence before it and 0.2 s after."""
    return bytes(9600) + voice.speak(f"{sentence.capitalize()}.", 1.0, 16000).pcm + bytes(6400)


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


class Listener:
    """What a pool says about one utterance."""

    def __init__(self):
        self.partials = []
        self.outcome = asyncio.get_running_loop().create_future()

    def __call__(self, kind, text):
        if kind is Kind.PARTIAL:
            self.partials.append(text)
        else:
            self.outcome.set_result((kind, text))

    async def result(self):
        return await asyncio.wait_for(self.outcome, HANG_SECONDS)


def gone(pid):
    """Whether a process has ended and been waited for."""
    return not Path(f"/proc/{pid}").exists()


def test_messages_survive_any_cut():
    stream = pack(Kind.START, 7) + pack(Kind.AUDIO, 7, b"abc") + pack(Kind.FINAL, 7, "né".encode())
    unpacker = Unpacker()
    got = [m for i in range(len(stream)) for m in unpacker.feed(stream[i : i + 1])]
    assert got == [(Kind.START, 7, b""), (Kind.AUDIO, 7, b"abc"), (Kind.FINAL, 7, "né".encode())]
    with pytest.raises(ValueError, match="at most"):
        list(unpacker.feed(pack(Kind.AUDIO, 1, bytes(MAX_PAYLOAD + 1))))


async def test_sentences_are_recognised():
    errors = []
    async with running(make()) as line:
        for number, sentence in enumerate(SENTENCES, 1):
            await utter(line, sentence)
            frame = await line.out.first(TranscriptionFrame, number)
            errors.append(word_error_rate(sentence, frame.text))
            assert frame.finalized
            assert frame.language == "en"
    assert max(errors) <= 0.2
    assert len(line.out.of(TranscriptionFrame)) == len(SENTENCES)
    assert not line.back.of(ErrorFrame)


async def test_the_first_word_is_kept_by_the_pre_roll():
    async with running(make()) as line:
        await utter(line, "please tell me about your opening hours", detected_after=0.6)
        frame = await line.out.first(TranscriptionFrame)
    assert frame.text.startswith("please tell")


async def test_speech_before_the_pre_roll_is_not_recognised():
    async with running(make()) as line:
        await line.speak(said("what is the capital of france") + bytes(32000))
        await utter(line, "are you open on sunday")
        frame = await line.out.first(TranscriptionFrame)
    assert "france" not in frame.text


async def test_partial_words_come_while_the_caller_speaks():
    def partials():
        return [f.text for f in line.out.of(InterimTranscriptionFrame)]

    await stt.warm()
    async with running(make()) as line:
        pcm = said("please tell me about your opening hours")
        await line.send(started())
        async with asyncio.timeout(HANG_SECONDS):
            frames = 0
            while not any("your opening" in text for text in partials()):
                await line.speak(pcm[frames * 640 : frames * 640 + 640] or bytes(640))
                frames += 1
                await line.out.first(InputAudioRawFrame, frames)
        assert not line.out.of(TranscriptionFrame)
        assert all(a != b for a, b in itertools.pairwise(partials()))


async def test_audio_passes_on():
    async with running(make()) as line:
        await line.speak(bytes(6400))
        await line.out.first(InputAudioRawFrame, 10)


async def test_silence_gives_no_words_and_no_error():
    async with running(make()) as line:
        await line.send(started())
        await line.speak(bytes(32000))
        await line.send(stopped())
        await utter(line, "are you open on sunday")
        frame = await line.out.first(TranscriptionFrame)
        assert "sunday" in frame.text
    assert len(line.out.of(TranscriptionFrame)) == 1
    assert not line.back.of(ErrorFrame)


async def test_an_utterance_without_audio_ends():
    listener = Listener()
    stt.pool().start(listener).end()
    assert await listener.result() == (Kind.FINAL, "")


async def test_an_interruption_does_not_cut_the_caller_off():
    async with running(make()) as line:
        pcm = said("i would like to order two large pizzas")
        await line.send(started())
        await line.speak(pcm[:32000])
        await line.send(InterruptionFrame())
        await line.speak(pcm[32000:])
        await line.send(stopped())
        frame = await line.out.first(TranscriptionFrame)
    assert word_error_rate("i would like to order two large pizzas", frame.text) <= 0.25


async def test_a_muted_caller_is_not_heard():
    async with running(make()) as line:
        await line.send(STTMuteFrame(mute=True))
        await utter(line, "what is the capital of france")
        await line.send(STTMuteFrame(mute=False))
        await utter(line, "are you open on sunday")
        frame = await line.out.first(TranscriptionFrame)
    assert "sunday" in frame.text


async def test_the_last_words_come_before_the_end():
    await stt.warm()
    async with running(make()) as line:
        pcm = said("are you open on sunday")
        await line.send(started())
        await line.speak(pcm)
        # The call ends while the caller's last words are still being decoded.
        await line.out.first(InputAudioRawFrame, len(pcm) // 640)
    assert "sunday" in line.out.of(TranscriptionFrame)[0].text


async def test_the_latency_is_measured_and_announced():
    async with running(make()) as line:
        await utter(line, "are you open on sunday")
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


async def test_more_utterances_than_decoders_wait_their_turn(settings):
    settings.LOCAL_STT_DECODERS = 1
    first, second = Listener(), Listener()
    one, other = stt.pool().start(first), stt.pool().start(second)
    one.feed(said(SENTENCES[0]))
    other.feed(said(SENTENCES[1]))
    other.end()
    one.end()
    assert word_error_rate(SENTENCES[0], (await first.result())[1]) <= 0.2
    assert word_error_rate(SENTENCES[1], (await second.result())[1]) <= 0.2


async def test_decoding_is_shared_fairly():
    """A short utterance is not kept waiting by a long one that came first."""
    await stt.warm()
    order = []
    long, short = Listener(), Listener()
    long.outcome.add_done_callback(lambda _: order.append("long"))
    short.outcome.add_done_callback(lambda _: order.append("short"))
    one, other = stt.pool().start(long), stt.pool().start(short)
    one.feed(said(SENTENCES[2]) * 8)
    one.end()
    other.feed(said(SENTENCES[0]))
    other.end()
    await long.result()
    await short.result()
    assert order == ["short", "long"]


async def test_a_monologue_is_decoded_in_pieces():
    listener = Listener()
    utterance = stt.pool().start(listener)
    for _ in range(12):
        utterance.feed(said(SENTENCES[4]))
    utterance.end()
    kind, text = await listener.result()
    assert kind is Kind.FINAL
    assert word_error_rate(" ".join([SENTENCES[4]] * 12), text) <= 0.3


async def test_a_cancelled_utterance_frees_its_decoder(settings):
    settings.LOCAL_STT_DECODERS = 1
    cancelled, listener = Listener(), Listener()
    one = stt.pool().start(cancelled)
    one.feed(said(SENTENCES[0]))
    one.cancel()
    one.cancel()
    other = stt.pool().start(listener)
    other.feed(said(SENTENCES[1]))
    other.end()
    assert word_error_rate(SENTENCES[1], (await listener.result())[1]) <= 0.2
    assert not cancelled.outcome.done()


async def test_a_backlog_that_grows_too_long_is_an_error(settings):
    settings.LOCAL_STT_DECODERS = 1
    holder, waiting = Listener(), Listener()
    stt.pool().start(holder).feed(said(SENTENCES[0]))
    await stt.warm()
    other = stt.pool().start(waiting)
    for _ in range(61):
        other.feed(bytes(32000))
    assert (await waiting.result())[0] is Kind.ERROR


async def test_a_killed_worker_is_reported_and_replaced():
    await stt.warm()
    (pid,) = stt.pool().pids
    async with running(make()) as line:
        await line.send(started())
        await line.speak(said(SENTENCES[0])[:32000])
        await line.out.first(InterimTranscriptionFrame)
        os.kill(pid, signal.SIGKILL)
        error = await line.back.first(ErrorFrame)
        assert "worker died" in error.error
        assert not error.fatal
        assert pid not in stt.pool().pids
        await line.send(stopped())
        await utter(line, SENTENCES[1])
        frame = await line.out.first(TranscriptionFrame)
        assert word_error_rate(SENTENCES[1], frame.text) <= 0.2
    assert gone(pid)
    assert len(line.back.of(ErrorFrame)) == 1


async def test_a_stopped_worker_is_reported_in_time():
    await stt.warm()
    (pid,) = stt.pool().pids
    async with running(make()) as line:
        os.kill(pid, signal.SIGSTOP)
        try:
            await utter(line, SENTENCES[0])
            error = await line.back.first(ErrorFrame)
            assert "no words within 4 s" in error.error
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_several_workers_share_the_calls(settings):
    settings.LOCAL_STT_WORKERS = 2
    await stt.warm()
    assert len(set(stt.pool().pids)) == 2
    listeners = [Listener(), Listener()]
    for listener, sentence in zip(listeners, SENTENCES, strict=False):
        utterance = stt.pool().start(listener)
        utterance.feed(said(sentence))
    assert [len(w.utterances) for w in stt.pool()._workers] == [1, 1]


async def test_nothing_is_left_after_close():
    await stt.warm()
    assert stt.is_ready()
    pids = stt.pool().pids
    stt.pool().start(Listener()).feed(said(SENTENCES[0]))
    await asyncio.wait_for(stt.close(), 2)
    assert all(map(gone, pids))
    assert not stt.is_ready()
    await stt.close()


def test_a_new_event_loop_takes_the_processes_over():
    async def recognise():
        listener = Listener()
        utterance = stt.pool().start(listener)
        utterance.feed(said(SENTENCES[0]))
        utterance.end()
        return (await listener.result())[1], stt.pool().pids

    async def abandon():
        stt.pool().start(Listener()).feed(said(SENTENCES[1]))

    text, pids = asyncio.run(recognise())
    asyncio.run(abandon())
    assert asyncio.run(recognise()) == (text, pids)
    assert word_error_rate(SENTENCES[0], text) <= 0.2
    asyncio.run(stt.close())


def test_a_worker_ends_when_its_server_is_killed():
    """Its socket closes with the server, however that dies."""
    code = """
import asyncio
from calls.providers.local.stt_pool import Pool

async def main():
    pool = Pool(workers=1, decoders=1)
    await pool.warm()
    print(pool.pids[0], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as server:
        worker = os.pidfd_open(int(server.stdout.readline()))
        server.kill()
    ended, _, _ = select.select([worker], [], [], HANG_SECONDS)
    os.close(worker)
    assert ended
