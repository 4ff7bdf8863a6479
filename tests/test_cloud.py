"""Pipecat's cloud services against local servers: what they send, and what each fault makes of them."""

from collections import deque

import pytest
from openai import Timeout
from pipecat.frames.frames import (
    InputAudioRawFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.utils.errors import ErrorCategory

from calls.providers import accounts, catalogue, cloud
from calls.providers.frames import ReplyCutFrame
from tests.cloud import cartesia, openai
from tests.cloud.journal import Journal
from tests.cloud.rig import SAMPLE_RATE, running
from tests.cloud.voice import speak

REFUSALS = [(429, ErrorCategory.RATE_LIMIT), (500, ErrorCategory.SERVER)]
VOICE = "0a1b2c3d-0000-4000-8000-0123456789ab"
CONVERSATION = [
    {"role": "assistant", "content": "Good morning."},
    {"role": "user", "content": "What time is it?"},
]
SENTENCES = ["The shop opens at nine.", "Come in the morning.", "Ask for Anna."]


@pytest.fixture(autouse=True)
def keys(settings):
    settings.CARTESIA_API_KEY = cartesia.KEY
    settings.OPENAI_API_KEY = openai.KEY
    return settings


@pytest.fixture(autouse=True)
async def closed():
    """Nothing that calls share outlives a test and its event loop."""
    yield
    await catalogue.close()


def create(kind, provider, values=None, language="en"):
    """The catalogue's service; its waits (4 s before a reconnect, 3 s for a sentence's audio) cut short."""
    service = catalogue.create(kind, provider, values or {}, language=language)
    if provider == "cartesia":
        # Neither is a parameter of Cartesia's classes that a running service lets change.
        service._reconnect_backoff_min_wait = service._reconnect_backoff_max_wait = 0
        if kind == "tts":
            service._stop_frame_timeout_s = 0.3
    return service


def connections(service):
    """The service's connections, numbered from 1, as it makes them: only then does it send."""
    made = Journal()

    @service.event_handler("on_connected")
    async def on_connected(_service):
        made.append(len(made) + 1)

    return made


async def turn_away(rig, service):
    """Wait until the service has given up, which its last error tells."""
    await rig.errors.find(lambda error: not error.processor.is_usable)
    assert not service.is_usable


# --- Speech-to-text ---------------------------------------------------------------------------------------


@pytest.fixture
async def hearing(settings):
    """A speech-to-text server that the settings point to."""
    server = cartesia.SpeechToText("what time is it", "and who are you")
    async with server.running() as url:
        settings.CARTESIA_STT_URL = url
        yield server


async def say(rig, text="what time is it now please"):
    """Send `text` as the caller's voice in 100 ms frames, then the end of the speech; returns the audio."""
    audio = speak(text, SAMPLE_RATE)
    step = SAMPLE_RATE // 10 * 2
    for at in range(0, len(audio), step):
        await rig.send(InputAudioRawFrame(audio[at : at + step], SAMPLE_RATE, 1))
    await rig.send(VADUserStoppedSpeakingFrame())
    return audio


async def heard(rig, text):
    """Wait for the final transcript `text`."""
    return await rig.frames.find(lambda f: isinstance(f, TranscriptionFrame) and f.text == text)


async def test_stt_sends_the_audio_and_brings_transcripts(hearing):
    async with running(create("stt", "cartesia", {"model": "ink-whisper-2025-06-04"}, "de")) as rig:
        audio = await say(rig)
        final = await heard(rig, "what time is it")

    (session,) = hearing.sessions
    assert session.headers["X-API-Key"] == cartesia.KEY
    assert session.headers["Cartesia-Version"] == "2026-03-01"
    assert session.query == {
        "model": "ink-whisper-2025-06-04",
        "language": "de",
        "encoding": "pcm_s16le",
        "sample_rate": "16000",
    }
    assert bytes(session.audio) == audio
    assert session.commands == ["finalize", "done"]
    (interim,) = rig.all(InterimTranscriptionFrame)
    assert interim.text == "what time"
    assert final.language == interim.language == "en"
    assert rig.frames.index(interim) < rig.frames.index(final)
    assert rig.errors == []


async def test_stt_with_a_wrong_key_is_given_up_without_a_retry(hearing, settings):
    settings.CARTESIA_API_KEY = "sk_car_wrong"
    service = create("stt", "cartesia")
    async with running(service) as rig:
        await turn_away(rig, service)

    assert rig.errors[0].category is ErrorCategory.AUTHENTICATION
    assert rig.errors[0].error.endswith("HTTP 401")
    assert hearing.refusals == [401]


@pytest.mark.parametrize(("status", "category"), REFUSALS)
async def test_stt_refused_is_tried_three_times_more_and_given_up(hearing, status, category):
    hearing.faults.status(status)
    service = create("stt", "cartesia")
    async with running(service) as rig:
        await turn_away(rig, service)

    assert hearing.refusals == [status] * 4
    assert [e.category for e in rig.errors if e.error.endswith(f"HTTP {status}")] == [category] * 4
    assert rig.errors[-1].category is ErrorCategory.CONNECTIVITY
    assert "failed to reconnect after 3 attempts" in rig.errors[-1].error


async def test_stt_dropped_mid_sentence_loses_it_without_an_error_and_reconnects(hearing):
    hearing.faults.drop_after(1)
    service = create("stt", "cartesia")
    made = connections(service)
    async with running(service) as rig:
        await say(rig)
        await rig.find(InterimTranscriptionFrame)
        await made.find(lambda number: number == 2)
        hearing.faults.recover()
        await say(rig)
        await heard(rig, "and who are you")

    assert len(rig.all(TranscriptionFrame)) == 1
    assert len(hearing.sessions) == 2
    assert rig.errors == []


async def test_stt_dropped_three_times_is_given_up(hearing):
    hearing.faults.drop_after(0)
    service = create("stt", "cartesia")
    made = connections(service)
    async with running(service) as rig:
        for number in (1, 2, 3):
            await made.find(number.__eq__)
            await rig.send(VADUserStoppedSpeakingFrame())
        await turn_away(rig, service)

    assert "failed 3 times immediately after connecting" in rig.errors[-1].error


async def test_stt_that_stays_silent_is_no_error(hearing):
    hearing.faults.silent()
    async with running(create("stt", "cartesia")) as rig:
        await say(rig)
        await hearing.sessions[0].commands.find(lambda command: command == "finalize")
        hearing.faults.recover()
        await say(rig)
        await heard(rig, "and who are you")

    assert len(rig.all(TranscriptionFrame)) == 1
    assert rig.errors == []


async def test_stt_that_is_slow_is_waited_for(hearing):
    hearing.faults.slow(0.5)
    async with running(create("stt", "cartesia")) as rig:
        await say(rig)
        await heard(rig, "what time is it")

    assert rig.errors == []


async def test_stt_given_up_hears_again_only_after_a_new_connection(hearing):
    hearing.faults.status(401)
    service = create("stt", "cartesia")
    async with running(service) as rig:
        await turn_away(rig, service)
        hearing.faults.recover()

        await service.set_usable(True)
        await say(rig)
        assert hearing.sessions == []

        await service._do_reconnect()
        await say(rig)
        await heard(rig, "what time is it")


# --- Replies ----------------------------------------------------------------------------------------------


@pytest.fixture
async def thinking(settings):
    """A chat server that the settings point to."""
    server = openai.ChatCompletions("It is a quarter past nine.")
    async with server.running() as url:
        settings.OPENAI_BASE_URL = url
        yield server


async def test_a_server_that_needs_no_key_answers(thinking, settings, monkeypatch):
    settings.OPENAI_API_KEY, thinking.key = "", None
    account = accounts.Account("", settings.OPENAI_BASE_URL)
    monkeypatch.setattr(accounts, "_stored", {"openai": account})
    async with running(create("llm", "openai")) as rig:
        assert await ask(rig) == "It is a quarter past nine."


async def ask(rig):
    """Ask for a reply and wait until the service has done with it; returns the reply's text."""
    start = len(rig.frames)
    await rig.send(LLMContextFrame(LLMContext(list(CONVERSATION))))
    await rig.frames.find(lambda f: isinstance(f, LLMFullResponseEndFrame) and f in rig.frames[start:])
    return "".join(f.text for f in rig.frames[start:] if isinstance(f, LLMTextFrame))


async def test_llm_sends_the_conversation_and_streams_the_reply(thinking):
    settings = {"model": "gpt-4o", "temperature": 0.5, "max_tokens": 60}
    async with running(create("llm", "openai", settings)) as rig:
        assert await ask(rig) == "It is a quarter past nine."

    (request,) = thinking.requests
    assert request.headers["Authorization"] == f"Bearer {openai.KEY}"
    assert request.body == {
        "model": "gpt-4o",
        "temperature": 0.5,
        "max_completion_tokens": 60,
        "messages": CONVERSATION,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert [f.text for f in rig.all(LLMTextFrame)] == ["It", " is", " a", " quarter", " past", " nine."]
    assert rig.errors == []


async def test_llm_with_a_wrong_key_is_unusable_yet_asked_again(thinking, settings):
    settings.OPENAI_API_KEY = "sk-wrong"
    service = create("llm", "openai")
    async with running(service) as rig:
        assert await ask(rig) == ""
        await turn_away(rig, service)
        await ask(rig)

    assert rig.errors[0].category is ErrorCategory.AUTHENTICATION
    assert len(thinking.requests) == 2  # no retry, but the next turn asks all the same


async def test_llm_stays_unusable_after_it_works_again(thinking):
    thinking.faults.status(401)
    service = create("llm", "openai")
    async with running(service) as rig:
        await ask(rig)
        await turn_away(rig, service)
        thinking.faults.recover()

        assert await ask(rig) == "It is a quarter past nine."
        assert not service.is_usable
        await service.set_usable(True)
        assert await ask(rig) == "It is a quarter past nine."
        assert service.is_usable


@pytest.mark.parametrize(("status", "category"), REFUSALS)
async def test_llm_refused_is_tried_once_more(thinking, status, category):
    thinking.faults.status(status)
    service = create("llm", "openai")
    async with running(service) as rig:
        assert await ask(rig) == ""
        error = await rig.errors.find(lambda error: True)
        thinking.faults.recover()
        assert await ask(rig) == "It is a quarter past nine."

    assert error.category is category
    assert service.is_usable
    assert len(rig.errors) == 1
    assert len(thinking.requests) == 3


async def test_llm_dropped_mid_sentence_keeps_what_came(thinking):
    thinking.faults.drop_after(3)
    service = create("llm", "openai")
    async with running(service) as rig:
        assert await ask(rig) == "It is a"
        error = await rig.errors.find(lambda error: True)

    assert error.category is ErrorCategory.UNKNOWN
    assert error.error == "Error during completion: Connection error."
    assert service.is_usable
    assert len(thinking.requests) == 1


async def test_llm_that_stays_silent_is_tried_once_more(thinking, monkeypatch):
    monkeypatch.setattr(cloud, "OPENAI_TIMEOUT", Timeout(0.3))
    thinking.faults.silent()
    service = create("llm", "openai")
    async with running(service) as rig:
        assert await ask(rig) == ""
        error = await rig.errors.find(lambda error: True)

    assert error.error == "Error during completion: Request timed out."
    assert error.category is ErrorCategory.UNKNOWN
    assert service.is_usable
    assert len(thinking.requests) == 2


async def test_llm_that_is_slow_is_waited_for(thinking):
    thinking.faults.slow(0.5)
    async with running(create("llm", "openai")) as rig:
        assert await ask(rig) == "It is a quarter past nine."

    assert rig.errors == []
    assert len(thinking.requests) == 1


async def test_llm_hangs_up_when_interrupted(thinking):
    thinking.faults.silent()
    async with running(create("llm", "openai")) as rig:
        await rig.send(LLMContextFrame(LLMContext(list(CONVERSATION))))
        request = await thinking.requests.find(lambda _: True)
        await rig.send(InterruptionFrame())
        assert await thinking.hang_ups.find(lambda _: True) is request

    assert rig.errors == []


async def test_llm_that_asks_for_a_tool_nobody_offered_is_asked_once(thinking):
    calls = [
        {"index": 0, "id": "t1", "type": "function", "function": {"name": "get_weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": "Paris"}'}},
    ]
    thinking.replies = deque([[*({"tool_calls": [call]} for call in calls), "tool_calls"], "Yes."])
    service = create("llm", "openai")
    async with running(service) as rig:
        assert await ask(rig) == ""
        (error,) = rig.errors
        assert error.error == "the language model asked for a tool that nobody offered: get_weather"
        assert await ask(rig) == "Yes."

    assert len(thinking.requests) == 2
    assert service.is_usable


async def test_llm_that_writes_beside_such_a_tool_is_heard(thinking, caplog):
    tool = {"index": 0, "id": "t1", "type": "function", "function": {"name": "sing", "arguments": "{}"}}
    thinking.replies = deque([["Let me see.", {"tool_calls": [tool]}, "tool_calls"]])
    async with running(create("llm", "openai")) as rig:
        assert await ask(rig) == "Let me see."

    assert rig.errors == []
    assert "nobody offered: sing" in caplog.text
    assert len(thinking.requests) == 1


@pytest.mark.parametrize(("finish", "by"), [("length", "max_tokens"), ("content_filter", "content_filter")])
async def test_llm_that_is_cut_says_by_what(thinking, finish, by):
    thinking.replies = deque([["It is a", finish]])
    async with running(create("llm", "openai")) as rig:
        assert await ask(rig) == "It is a"
        (cut,) = rig.all(ReplyCutFrame)

    assert by in cut.message
    assert rig.errors == []


async def test_llm_whose_reply_is_withheld_has_failed(thinking):
    thinking.replies = deque([["content_filter"]])
    async with running(create("llm", "openai")) as rig:
        assert await ask(rig) == ""
        (error,) = rig.errors

    assert "withheld" in error.error


# --- Text-to-speech ---------------------------------------------------------------------------------------


@pytest.fixture
async def speaking(settings):
    """A text-to-speech server that the settings point to."""
    for sentence in SENTENCES:
        speak(sentence, SAMPLE_RATE)  # so that the first answer doesn't wait for the model
    server = cartesia.TextToSpeech()
    async with server.running() as url:
        settings.CARTESIA_TTS_URL = url
        yield server


async def read_out(rig, *sentences):
    """Have a reply of `sentences` spoken and wait until it is done with; returns the frames it gave."""
    start = len(rig.frames)
    texts = [LLMTextFrame(f"{sentence} ") for sentence in sentences]
    await rig.send(LLMFullResponseStartFrame(), *texts, LLMFullResponseEndFrame())
    await rig.frames.find(lambda f: isinstance(f, LLMFullResponseEndFrame) and f in rig.frames[start:])
    return rig.frames[start:]


def audio_of(frames):
    return b"".join(f.audio for f in frames if isinstance(f, TTSAudioRawFrame))


def words_of(frames):
    return " ".join(f.text for f in frames if isinstance(f, TTSTextFrame))


async def test_tts_sends_the_sentences_and_brings_speech_with_word_times(speaking):
    async with running(create("tts", "cartesia", {"voice": VOICE, "speed": 1.2}, "en-GB")) as rig:
        frames = await read_out(rig, *SENTENCES[:2])

    (session,) = speaking.sessions
    assert session.headers["X-API-Key"] == cartesia.KEY
    assert session.headers["Cartesia-Version"] == "2026-03-01"
    assert [r["transcript"].strip() for r in speaking.requests] == [*SENTENCES[:2], ""]
    assert [r["continue"] for r in speaking.requests] == [True, True, False]
    assert len({r["context_id"] for r in speaking.requests}) == 1
    for request in speaking.requests:
        assert request["voice"] == {"mode": "id", "id": VOICE}
        assert request["output_format"] == {
            "container": "raw",
            "encoding": "pcm_s16le",
            "sample_rate": SAMPLE_RATE,
        }
        assert request["language"] == "en-GB"
        assert request["generation_config"] == {"speed": 1.2}
        assert request["model_id"].startswith("sonic-")
        assert request["add_timestamps"] is True

    assert audio_of(frames) == b"".join(speak(r["transcript"], SAMPLE_RATE) for r in speaking.requests[:2])
    assert words_of(frames) == " ".join(SENTENCES[:2])
    times = [f.pts for f in frames if isinstance(f, TTSTextFrame)]
    assert times == sorted(times)
    assert len(set(times)) == len(times)
    assert [type(f) for f in frames].count(TTSStoppedFrame) == 1
    assert rig.errors == []


async def test_tts_interrupted_cancels_the_sentence(speaking):
    async with running(create("tts", "cartesia")) as rig:
        speaking.faults.silent()
        await rig.send(TTSSpeakFrame(SENTENCES[0]))
        first = await speaking.requests.find(lambda _: True)
        await rig.find(TTSStartedFrame)
        await rig.send(InterruptionFrame())
        cancel = await speaking.requests.find(lambda request: request.get("cancel"))
        speaking.faults.recover()
        frames = await read_out(rig, SENTENCES[1])

    assert cancel == {"context_id": first["context_id"], "cancel": True}
    assert audio_of(rig.frames) == audio_of(frames)
    assert words_of(frames) == SENTENCES[1]


async def test_tts_with_a_wrong_key_is_given_up_and_later_sentences_are_silent(speaking, settings):
    settings.CARTESIA_API_KEY = "sk_car_wrong"
    service = create("tts", "cartesia")
    async with running(service) as rig:
        await turn_away(rig, service)
        frames = await read_out(rig, SENTENCES[0])

    assert rig.errors[0].category is ErrorCategory.AUTHENTICATION
    assert speaking.refusals == [401]
    assert audio_of(frames) == b""
    # Pipecat claims the sentence as spoken, and never says that it stopped.
    assert words_of(frames) == SENTENCES[0]
    assert not any(isinstance(f, TTSStoppedFrame) for f in frames)
    assert len(rig.errors) == 1


@pytest.mark.parametrize(("status", "category"), REFUSALS)
async def test_tts_refused_fails_each_sentence_at_once_and_recovers_by_itself(speaking, status, category):
    speaking.faults.status(status)
    service = create("tts", "cartesia")
    async with running(service) as rig:
        frames = await read_out(rig, SENTENCES[0])
        silent = await rig.errors.find(lambda error: error.error.endswith("completed with no audio"))
        speaking.faults.recover()
        again = await read_out(rig, SENTENCES[1])

    assert rig.errors[0].category is category
    assert silent.category is ErrorCategory.UNKNOWN
    assert service.is_usable
    assert audio_of(frames) == b""
    assert words_of(again) == SENTENCES[1]
    assert audio_of(again)


async def test_tts_dropped_mid_sentence_breaks_off_without_an_error(speaking):
    speaking.faults.drop_after(2)
    service = create("tts", "cartesia")
    made = connections(service)
    async with running(service) as rig:
        frames = await read_out(rig, SENTENCES[0])
        await made.find(lambda number: number == 2)
        speaking.faults.recover()
        again = await read_out(rig, SENTENCES[1])

    assert len(audio_of(frames)) == 2 * SAMPLE_RATE // 10 * 2  # two chunks of 100 ms
    assert not any(isinstance(f, TTSStoppedFrame) for f in frames)
    assert rig.errors == []
    assert words_of(again) == SENTENCES[1]
    assert any(isinstance(f, TTSStoppedFrame) for f in again)


async def test_tts_dropped_three_times_is_given_up(speaking):
    speaking.faults.drop_after(2)
    service = create("tts", "cartesia")
    made = connections(service)
    async with running(service) as rig:
        for number, sentence in enumerate(SENTENCES, 1):
            await made.find(number.__eq__)
            await rig.send(TTSSpeakFrame(sentence))
        await turn_away(rig, service)

    assert "failed 3 times immediately after connecting" in rig.errors[-1].error


async def test_tts_that_stays_silent_is_given_up_after_three_sentences(speaking):
    speaking.faults.silent()
    service = create("tts", "cartesia")
    async with running(service) as rig:
        for sentence in SENTENCES:
            frames = await read_out(rig, sentence)
            assert words_of(frames) == sentence  # claimed as spoken
        await turn_away(rig, service)

    errors = [error.error for error in rig.errors]
    assert [error.endswith("completed with no audio") for error in errors] == [True] * 3
    assert errors[-1].startswith("3 consecutive TTS contexts")


async def test_tts_that_is_too_slow_is_not_heard(speaking):
    speaking.faults.slow(0.6)  # twice what a sentence is given
    async with running(create("tts", "cartesia")) as rig:
        frames = await read_out(rig, SENTENCES[0])
        error = await rig.errors.find(lambda _: True)

    assert audio_of(frames) == b""
    assert error.error.endswith("completed with no audio")


async def test_tts_that_is_slow_is_waited_for(speaking):
    speaking.faults.slow(0.1)
    async with running(create("tts", "cartesia")) as rig:
        frames = await read_out(rig, SENTENCES[0])

    assert audio_of(frames) == speak(SENTENCES[0], SAMPLE_RATE)
    assert rig.errors == []


async def test_tts_given_up_speaks_again_after_a_new_connection(speaking):
    service = create("tts", "cartesia")
    async with running(service) as rig:
        await read_out(rig, SENTENCES[0])
        speaking.faults.status(401)
        speaking.drop_all()
        await turn_away(rig, service)
        speaking.faults.recover()

        await service.set_usable(True)
        assert audio_of(await read_out(rig, SENTENCES[1])) == b""  # nobody reads the new connection

        await service._disconnect()
        await service._connect()
        assert audio_of(await read_out(rig, SENTENCES[2])) == speak(SENTENCES[2], SAMPLE_RATE)
