"""Speech-to-text, a language model and a voice that answer after fixed times.

They replace real providers in both servers, so that only the server is measured. Each is an ordinary Pipecat
service and needs little CPU: it uses timers and ready-made audio.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from functools import cache
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    Frame,
    InterimTranscriptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

from benchmarks.figures import LLM_FIRST_TOKEN_S, REPLY, STT_FINAL_S, TOKEN_S, TTS_FIRST_AUDIO_S

SAMPLE_RATE = 16_000
PARTIAL_EVERY_S = 0.5
SECONDS_PER_CHARACTER = 0.065  # people's usual pace
PIECE_S = 0.1  # length of a piece of audio
PIECE_EVERY_S = 0.02  # between pieces: audio comes five times as fast as it is spoken
FRAME_S = 0.02

_speed = 1.0


def hasten(speed: float) -> None:
    """Answer `speed` times as fast, for calls whose audio comes `speed` times as fast."""
    global _speed  # noqa: PLW0603  one for the server under test
    _speed = speed


class FixedSTT(STTService):
    """Pushes an interim transcript every half second of speech, a final one 200 ms after its detected end."""

    def __init__(self) -> None:
        super().__init__(
            sample_rate=SAMPLE_RATE,
            ttfs_p99_latency=0.2 + STT_FINAL_S + 0.1,
            settings=STTSettings(model="fixed", language="en"),
        )
        self._utterance: asyncio.Task[None] | None = None

    def can_generate_metrics(self) -> bool:
        """True, as for real services."""
        return True

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Ignore the audio."""
        yield None

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the voice activity detector."""
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame):
            await self._replace(self._partials())
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self.request_finalize()
            await self._replace(self._final())

    async def cleanup(self) -> None:
        """Drop what is under way."""
        await super().cleanup()
        await self._replace(None)

    async def _replace(self, work: Any) -> None:
        if self._utterance is not None:
            await self.cancel_task(self._utterance)
        self._utterance = self.create_task(work, name="utterance") if work is not None else None

    async def _partials(self) -> None:
        text = "the caller"
        while True:
            await asyncio.sleep(PARTIAL_EVERY_S / _speed)
            text += " said"
            await self.push_frame(InterimTranscriptionFrame(text, "", time_now_iso8601(), Language.EN))

    async def _final(self) -> None:
        await asyncio.sleep(STT_FINAL_S / _speed)
        self.confirm_finalize()
        text = "The caller said something of ordinary length."
        await self.push_frame(TranscriptionFrame(text, "", time_now_iso8601(), Language.EN))


class FixedLLM(LLMService):
    """Writes the same reply each time: the first token after a quarter of a second, then 100 a second."""

    def __init__(self) -> None:
        super().__init__(
            settings=LLMSettings(
                model="fixed", system_instruction=None, temperature=None, max_tokens=None, top_p=None,
                top_k=None, frequency_penalty=None, presence_penalty=None, seed=None,
                filter_incomplete_user_turns=False, user_turn_completion_config=None,
            )
        )  # fmt: skip

    def can_generate_metrics(self) -> bool:
        """True, as for real services."""
        return True

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer a context. An interruption cancels this coroutine."""
        await super().process_frame(frame, direction)
        if not isinstance(frame, LLMContextFrame):
            await self.push_frame(frame, direction)
            return
        try:
            await self.push_frame(LLMFullResponseStartFrame())
            await self.start_processing_metrics()
            await self._write()
        finally:
            await self.stop_processing_metrics()
            await self.push_frame(LLMFullResponseEndFrame())

    async def _write(self) -> None:
        await self.start_ttfb_metrics()
        due = time.monotonic() + LLM_FIRST_TOKEN_S / _speed
        for number, word in enumerate(REPLY.split()):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += TOKEN_S / _speed
            if number == 0:
                await self.stop_ttfb_metrics()
            await self._push_llm_text(word if number == 0 else f" {word}")


class FixedTTS(TTSService):
    """Pushes the first audio after 100 ms, then 100 ms of audio every 20 ms, with the times of the words."""

    def __init__(self) -> None:
        super().__init__(
            push_text_frames=False,
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model="fixed", voice="noise", language="en"),
        )
        self._spoken_s: dict[str, float] = {}

    def can_generate_metrics(self) -> bool:
        """True, as for real services."""
        return True

    async def on_audio_context_completed(self, context_id: str) -> None:
        """Forget how far the context has come."""
        self._spoken_s.pop(context_id, None)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        """Forget how far the context has come."""
        self._spoken_s.pop(context_id, None)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Yield the speech of `text`; the times of its words go to the context."""
        await self.start_tts_usage_metrics(text)
        due = time.monotonic() + TTS_FIRST_AUDIO_S / _speed
        seconds = speech_seconds(text)
        begins = self._spoken_s.get(context_id, 0.0)
        self._spoken_s[context_id] = begins + seconds
        pcm = memoryview(_voice())[: round(seconds * SAMPLE_RATE) * 2]
        size = round(PIECE_S * SAMPLE_RATE) * 2
        for start in range(0, len(pcm), size):
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due += PIECE_EVERY_S / _speed
            if start == 0:
                await self.add_word_timestamps(_word_times(text, begins), context_id)
            piece = bytes(pcm[start : start + size])
            yield TTSAudioRawFrame(piece, self.sample_rate, 1, context_id=context_id)


def speech_seconds(text: str) -> float:
    """How long `text` takes to say, in seconds, rounded to frames of 20 ms."""
    return round(len(text) * SECONDS_PER_CHARACTER / FRAME_S) * FRAME_S


def _word_times(text: str, begins: float) -> list[tuple[str, float]]:
    times, at = [], begins
    for word in text.split():
        times.append((word, at))
        at += (len(word) + 1) * SECONDS_PER_CHARACTER
    return times


@cache
def _voice() -> bytes:
    """Twenty seconds of noise as loud as speech, so that it is as long in JSON as a voice."""
    noise = np.random.default_rng(1).normal(0, 3000, 20 * SAMPLE_RATE)
    return np.clip(noise, -32_768, 32_767).astype("<i2").tobytes()


def stt(_values: Mapping[str, Any], _language: str) -> FixedSTT:
    """Make the service, for the catalogue."""
    return FixedSTT()


def llm(_values: Mapping[str, Any], _language: str) -> FixedLLM:
    """Make the service, for the catalogue."""
    return FixedLLM()


def tts(_values: Mapping[str, Any], _language: str) -> FixedTTS:
    """Make the service, for the catalogue."""
    return FixedTTS()
