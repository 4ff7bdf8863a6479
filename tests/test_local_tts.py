"""The embedded voice: intelligible speech, word times, and a context that holds what was heard."""

import asyncio

import numpy as np
import pytest
from pipecat.frames.frames import (
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData, TTSUsageMetricsData
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams

from calls.providers import catalogue
from calls.providers.local import stt, tts, voice
from calls.simulator.words import word_error_rate
from tests.provider_harness import Tap, running

REPLY = "Our office is open from nine to five. On Sundays it is closed."


@pytest.fixture(autouse=True)
async def closed():
    yield
    await tts.close()
    await stt.close()


class Telephone(BaseOutputTransport):
    """Plays audio at the pace of a telephone line, as the real transport does."""

    def __init__(self):
        super().__init__(TransportParams(audio_out_enabled=True))
        self.heard = bytearray()
        self._due = 0.0

    async def start(self, frame):
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        now = asyncio.get_running_loop().time()
        self._due = max(now, self._due) + len(frame.audio) / 2 / frame.sample_rate
        self.heard += frame.audio
        await asyncio.sleep(self._due - now)
        return True


def make(**settings):
    return catalogue.create("tts", "local", settings, language="en")


def audio(tap):
    return b"".join(f.audio for f in tap.of(TTSAudioRawFrame))


def words(tap):
    return [f.text for f in tap.of(TTSTextFrame)]


def llm_reply(text):
    tokens = [f"{word} " for word in text.split()]
    return [LLMFullResponseStartFrame(), *map(LLMTextFrame, tokens), LLMFullResponseEndFrame()]


async def recognise(pcm):
    """The words that the embedded speech-to-text hears in 16 kHz audio."""
    return (await stt.desk().transcribe(bytes(9600) + pcm + bytes(6400))).text


async def test_speech_is_recognised_back():
    async with running(make()) as line:
        await line.send(TTSSpeakFrame("What is the capital of France?"))
        await line.out.first(TTSStoppedFrame)
    assert word_error_rate("what is the capital of france", await recognise(audio(line.out))) <= 0.2
    assert all(f.sample_rate == 16000 for f in line.out.of(TTSAudioRawFrame))
    assert max(len(f.audio) for f in line.out.of(TTSAudioRawFrame)) <= 0.2 * 32000


async def test_a_reply_is_spoken_sentence_by_sentence():
    """The first sentence is heard while the model still writes the second."""
    first, second = REPLY.split(". ")
    async with running(make()) as line:
        await line.send(LLMFullResponseStartFrame(), LLMTextFrame(first + ". "), LLMTextFrame("On "))
        await line.out.first(TTSAudioRawFrame)
        await line.send(LLMTextFrame(second.removeprefix("On ")), LLMFullResponseEndFrame())
        await line.out.first(LLMFullResponseEndFrame)
    assert words(line.out) == REPLY.split()
    assert len(line.out.of(TTSStartedFrame)) == len(line.out.of(TTSStoppedFrame)) == 1
    order = [
        f for f in line.out.frames if isinstance(f, TTSStartedFrame | TTSAudioRawFrame | TTSStoppedFrame)
    ]
    assert isinstance(order[0], TTSStartedFrame)
    assert isinstance(order[-1], TTSStoppedFrame)
    assert not line.back.of(ErrorFrame)


async def test_word_times_rise_and_end_with_the_speech():
    async with running(make()) as line:
        await line.send(*llm_reply(REPLY))
        await line.out.first(LLMFullResponseEndFrame)
    times = [f.pts / 1e9 for f in line.out.of(TTSTextFrame)]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    seconds = len(audio(line.out)) / 32000
    assert seconds - 1.2 < times[-1] - times[0] < seconds
    assert line.out.of(TTSStoppedFrame)[0].pts >= line.out.of(TTSTextFrame)[-1].pts


def test_words_begin_where_they_are_heard():
    speech = voice.speak("Please tell me about your opening hours.", 1.0, 16000)
    assert [w for w, _ in speech.words] == ["Please", "tell", "me", "about", "your", "opening", "hours."]
    samples = np.abs(np.frombuffer(speech.pcm, "<i2"))
    loud = np.flatnonzero(samples > 300) / 16000
    assert abs(speech.words[0][1] - loud[0]) < 0.1
    assert speech.words[-1][1] < loud[-1] - 0.1
    assert speech.seconds == len(speech.pcm) / 32000


def test_speed_shortens_speech():
    slow, fast = (voice.speak("Please tell me about your opening hours.", s, 16000) for s in (1.0, 1.5))
    assert fast.seconds < slow.seconds * 0.85


async def test_speed_is_a_setting_of_the_service():
    lengths = []
    for speed in (0.8, 1.6):
        async with running(make(speed=speed)) as line:
            await line.send(TTSSpeakFrame("Please tell me about your opening hours."))
            await line.out.first(TTSStoppedFrame)
        lengths.append(len(audio(line.out)))
    assert lengths[1] < lengths[0] * 0.7


def test_long_texts_are_cut_where_one_breathes():
    text = "We are open from nine in the morning until six in the evening, " * 8
    cut = voice.pieces(text + "thank you. Dr. Smith is in.")
    assert " ".join(cut) == text + "thank you. Dr. Smith is in."
    assert max(map(len, cut)) <= voice.MAX_CHARACTERS
    assert all(piece.endswith(",") for piece in cut[:-2])
    assert cut[-1] == "Dr. Smith is in."
    assert all(len(p) <= voice.MAX_CHARACTERS for p in voice.pieces("x" * 1000))


@pytest.mark.parametrize("text", ["😀", "…", "你好", "-"])
async def test_a_text_without_sound_is_no_error(text):
    async with running(make()) as line:
        await line.send(TTSSpeakFrame(text), TTSSpeakFrame("Hello there."))
        await line.out.first(TTSStoppedFrame, 2)
    assert not line.back.of(ErrorFrame)
    assert words(line.out)[-2:] == ["Hello", "there."]


async def test_markdown_is_not_read_aloud():
    async with running(make()) as line:
        await line.send(TTSSpeakFrame("It is **very** good."))
        await line.out.first(TTSStoppedFrame)
    assert "asterisk" not in await recognise(audio(line.out))
    assert words(line.out) == ["It", "is", "very", "good."]


async def test_metrics_report_the_first_audio():
    async with running(make()) as line:
        await line.send(*llm_reply("Hello there."))
        await line.out.first(LLMFullResponseEndFrame)
    data = [d for f in line.out.of(MetricsFrame) for d in f.data]
    assert [d.value for d in data if isinstance(d, TTFBMetricsData) and d.value > 0]
    assert sum(d.value for d in data if isinstance(d, TTSUsageMetricsData)) == len("Hello there.")


async def test_a_greeting_reaches_the_context():
    context, phone = LLMContext(), Telephone()
    async with running(make(), phone, LLMContextAggregatorPair(context).assistant()) as line:
        await line.send(TTSSpeakFrame("Hello, how can I help you?"))
        await line.out.until(context.get_messages)
    assert context.get_messages() == [{"role": "assistant", "content": "Hello, how can I help you?"}]
    assert len(phone.heard) / 32000 > 1


async def test_a_greeting_may_stay_out_of_the_context():
    context = LLMContext()
    async with running(make(), Telephone(), LLMContextAggregatorPair(context).assistant()) as line:
        await line.send(TTSSpeakFrame("One moment.", append_to_context=False))
        await line.back.first(BotStoppedSpeakingFrame)
    assert context.get_messages() == []


async def test_a_whole_reply_reaches_the_context():
    context = LLMContext()
    async with running(make(), Telephone(), LLMContextAggregatorPair(context).assistant()) as line:
        await line.send(*llm_reply(REPLY))
        await line.out.until(context.get_messages)
    assert context.get_messages() == [{"role": "assistant", "content": REPLY}]


async def test_an_interrupted_reply_is_known_as_far_as_it_was_heard():
    context, phone = LLMContext(), Telephone()
    heard = Tap(FrameDirection.DOWNSTREAM)
    async with running(make(), phone, heard, LLMContextAggregatorPair(context).assistant()) as line:
        await line.send(*llm_reply(REPLY))
        await heard.first(TTSTextFrame, 5)
        await line.send(InterruptionFrame())
        await line.out.until(context.get_messages)
        heard_then = len(phone.heard)
        await line.send(TTSSpeakFrame("Yes?"))
        await line.out.until(lambda: len(context.get_messages()) == 2)
        assert len(phone.heard) - heard_then < 32000 * 1.5
    said = context.get_messages()[0]["content"].split()
    assert said == REPLY.split()[: len(said)]
    assert 5 <= len(said) <= 6
    assert context.get_messages()[1]["content"] == "Yes?"


async def test_two_replies_in_a_row_keep_their_words_apart():
    """The second starts to be written while the first is still heard."""
    context = LLMContext()
    async with running(make(), Telephone(), LLMContextAggregatorPair(context).assistant()) as line:
        await line.send(TTSSpeakFrame("Hello there, this is the office."), *llm_reply("We are open today."))
        await line.out.until(lambda: len(context.get_messages()) == 2)
    assert [m["content"] for m in context.get_messages()] == [
        "Hello there, this is the office.",
        "We are open today.",
    ]


async def test_a_cancelled_synthesis_does_not_play():
    service, asked = make(), asyncio.Event()

    @service.event_handler("on_tts_request")
    async def on_request(service, context_id, text):
        asked.set()

    async with running(service) as line:
        await line.send(*llm_reply(REPLY))
        await asyncio.wait_for(asked.wait(), 20)
        await line.send(InterruptionFrame())
        await line.out.first(InterruptionFrame)
        await line.send(TTSSpeakFrame("Yes."))
        await line.out.until(lambda: "Yes." in words(line.out) and line.out.of(TTSStoppedFrame))
    assert words(line.out) == ["Yes."]
    assert len(audio(line.out)) < 32000


async def test_the_voice_speaks_outside_of_a_pipeline():
    pcm = await catalogue.emergency_speech("Please tell me about your opening hours.", 16000)
    heard = await recognise(pcm)
    assert word_error_rate("please tell me about your opening hours", heard) <= 0.2


async def test_warm_ready_close():
    assert not tts.is_ready()
    await tts.warm()
    assert tts.is_ready()
    await tts.close()
    await tts.close()
    assert not tts.is_ready()
