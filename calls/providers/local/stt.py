"""The embedded speech-to-text as a Pipecat service: PocketSphinx in worker processes."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from django.conf import settings as django_settings
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterimTranscriptionFrame,
    StartFrame,
    STTMuteFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import STTSettings
from pipecat.services.stt_service import STTService
from pipecat.transcriptions.language import Language
from pipecat.utils.time import time_now_iso8601

from calls.providers.local.stt_pool import Pool, Utterance
from calls.providers.local.stt_wire import BYTES_PER_SECOND, SAMPLE_RATE, Kind

# Speech is detected some 0.2 s late and its first sounds are soft.
PRE_ROLL_BYTES = int(0.6 * BYTES_PER_SECOND)
FINAL_SECONDS = 4.0
STOP_SECONDS = 0.5
# From the end of speech to the words, with the usual 0.2 s of silence that ends speech.
TTFS_P99_SECONDS = 0.35

_pool: Pool | None = None


def pool() -> Pool:
    """The pool of worker processes, sized by the settings when it is first asked for."""
    global _pool  # noqa: PLW0603  one pool a server process, closed by close()
    if _pool is None:
        _pool = Pool(max(1, django_settings.LOCAL_STT_WORKERS), max(1, django_settings.LOCAL_STT_DECODERS))
    return _pool


async def warm() -> None:
    """Start the worker processes and wait until each has a decoder."""
    await pool().warm()


def is_ready() -> bool:
    """Whether the worker processes are up."""
    return _pool is not None and _pool.is_ready


async def close() -> None:
    """End the worker processes. Safe to call again."""
    global _pool
    closing, _pool = _pool, None
    if closing:
        await closing.close()


def build(values: Mapping[str, Any], language: str) -> "LocalSTTService":
    """Make the service. It has no settings but the `language`, such as "en"."""
    return LocalSTTService(language=language)


class _Speech:
    """One utterance as the service follows it: what came of it, and the limit on waiting for that."""

    def __init__(self) -> None:
        self.utterance: Utterance | None = None
        self.outcome: tuple[Kind, str] | None = None
        self.timer: asyncio.TimerHandle | None = None


class LocalSTTService(STTService):
    """Recognises what is said between the voice activity detector's start and stop.

    It takes 16 kHz s16le audio, keeps 0.6 s of it from before the detected start, and pushes
    InterimTranscriptionFrames while words come and a finalized TranscriptionFrame when speech has stopped;
    none if no words were recognised. A worker's failure, or no words for FINAL_SECONDS, is an ErrorFrame.
    """

    Settings = STTSettings
    _settings: STTSettings

    def __init__(self, *, language: str = "en", **kwargs: Any) -> None:
        super().__init__(
            sample_rate=SAMPLE_RATE,
            ttfs_p99_latency=TTFS_P99_SECONDS,
            settings=STTSettings(model="pocketsphinx-en-us", language=language),
            **kwargs,
        )
        self._language = Language(language)
        self._pre_roll: deque[bytes] = deque()
        self._pre_roll_bytes = 0
        self._speaking: _Speech | None = None
        # Ended and not yet answered, oldest first: words are pushed in the order they were spoken.
        self._awaited: deque[_Speech] = deque()
        self._events: asyncio.Queue[tuple[_Speech, Kind, str]] = asyncio.Queue()
        self._events_task: asyncio.Task[None] | None = None
        self._all_answered = asyncio.Event()
        self._all_answered.set()

    def can_generate_metrics(self) -> bool:
        """True: the time from the end of speech to its words is reported as TTFB."""
        return True

    async def start(self, frame: StartFrame) -> None:
        """Begin to listen to the workers' answers."""
        await super().start(frame)
        if self._events_task is None:
            self._events_task = self.create_task(self._handle_events(), name="events")

    async def stop(self, frame: EndFrame) -> None:
        """End gracefully: wait up to half a second for the last words."""
        self._end_speech()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._all_answered.wait()
        except TimeoutError:
            pass
        await super().stop(frame)
        await self._release()

    async def cancel(self, frame: CancelFrame) -> None:
        """Drop everything under way."""
        await super().cancel(frame)
        await self._release()

    async def cleanup(self) -> None:
        """Drop everything under way, if that has not been done."""
        await super().cleanup()
        await self._release()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the voice activity detector."""
        if isinstance(frame, STTMuteFrame) and frame.mute:
            self._drop_speech()
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame) and not self.is_muted:
            self._start_speech()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._end_speech()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Send audio on if someone speaks, else keep it as the possible beginning of speech."""
        if self._speaking and self._speaking.utterance:
            self._speaking.utterance.feed(audio)
        else:
            self._pre_roll.append(audio)
            self._pre_roll_bytes += len(audio)
            while self._pre_roll_bytes - len(self._pre_roll[0]) >= PRE_ROLL_BYTES:
                self._pre_roll_bytes -= len(self._pre_roll.popleft())
        yield None

    def _start_speech(self) -> None:
        self._end_speech()
        speech = self._speaking = _Speech()
        speech.utterance = pool().start(lambda kind, text: self._events.put_nowait((speech, kind, text)))
        speech.utterance.feed(b"".join(self._pre_roll))
        self._pre_roll.clear()
        self._pre_roll_bytes = 0

    def _end_speech(self) -> None:
        speech, self._speaking = self._speaking, None
        if speech is None or speech.utterance is None:
            return
        self.request_finalize()
        self._awaited.append(speech)
        self._all_answered.clear()
        speech.utterance.end()
        if speech.outcome:
            # It failed while the caller still spoke, which has been reported.
            self._events.put_nowait((speech, *speech.outcome))
        else:
            message = f"the embedded speech-to-text gave no words within {FINAL_SECONDS:g} s"
            speech.timer = asyncio.get_running_loop().call_later(
                FINAL_SECONDS, self._events.put_nowait, (speech, Kind.ERROR, message)
            )

    def _drop_speech(self) -> None:
        speech, self._speaking = self._speaking, None
        if speech and speech.utterance:
            speech.utterance.cancel()

    async def _handle_events(self) -> None:
        while True:
            speech, kind, text = await self._events.get()
            if kind is Kind.PARTIAL:
                await self._push_partial(speech, text)
                continue
            if speech.outcome is None:
                speech.outcome = (kind, text)
                if kind is Kind.ERROR:
                    await self.push_error(error_msg=f"{self.name}: {text}")
            while self._awaited and self._awaited[0].outcome:
                await self._finish(self._awaited.popleft())
            if not self._awaited:
                self._all_answered.set()

    async def _push_partial(self, speech: _Speech, text: str) -> None:
        # Older words are still awaited: a newer partial would come before them.
        if not self._awaited or self._awaited[0] is speech:
            await self.push_frame(
                InterimTranscriptionFrame(text, self._user_id, time_now_iso8601(), self._language)
            )

    async def _finish(self, speech: _Speech) -> None:
        if speech.timer:
            speech.timer.cancel()
        if speech.utterance:
            speech.utterance.cancel()
        kind, text = speech.outcome or (Kind.ERROR, "")
        if kind is Kind.FINAL and text:
            await self.emit_stt_usage_metrics()
            # Words of earlier speech are not the end of what the caller is saying now.
            if not self._awaited and not self._speaking:
                self.confirm_finalize()
            await self.push_frame(TranscriptionFrame(text, self._user_id, time_now_iso8601(), self._language))

    async def _release(self) -> None:
        self._drop_speech()
        for speech in self._awaited:
            if speech.timer:
                speech.timer.cancel()
            if speech.utterance:
                speech.utterance.cancel()
        self._awaited.clear()
        self._all_answered.set()
        if self._events_task:
            await self.cancel_task(self._events_task)
            self._events_task = None
