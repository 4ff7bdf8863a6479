"""The embedded speech-to-text as a Pipecat service: Moonshine, in threads that all calls share."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
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

from calls.providers.catalogue import ProviderUnavailable
from calls.providers.frames import CallerPausedFrame, SpeechTranscribedFrame
from calls.providers.local.decoding import Desk, Threads
from calls.providers.local.moonshine import (
    BASE,
    SAMPLE_RATE,
    TINY,
    Moonshine,
    Transcript,
    base_folder,
    tiny_folder,
)
from calls.providers.local.speech import BYTES_PER_SECOND, Speech

# Audio from before the detected start: speech is detected some 0.2 s late, and its first sounds are soft.
PRE_ROLL_BYTES = int(0.5 * BYTES_PER_SECOND)
# If more audio or more speeches wait to be transcribed, the machine cannot keep up: the oldest are dropped.
MAX_BACKLOG_BYTES = 60 * BYTES_PER_SECOND
MOST_WAITING = 16
FINAL_SECONDS = 4.0
STOP_SECONDS = 0.5
# From the end of speech to its transcript, including the 0.2 s of silence that end speech.
TTFS_P99_SECONDS = 0.35

_threads: Threads | None = None
_desk: Desk | None = None


def threads() -> Threads:
    """The threads that recognise speech, as many as the settings say when they are first asked for."""
    global _threads  # noqa: PLW0603  one set a server process, ended by close()
    if _threads is None:
        count = django_settings.LOCAL_STT_THREADS
        count = count if count > 0 else len(os.sched_getaffinity(0))
        folders = {TINY: tiny_folder, BASE: base_folder}
        _threads = Threads(lambda name: Moonshine(folders[name]()), count)
    return _threads


def desk() -> Desk:
    """The desk at which the calls of the running event loop get a thread."""
    global _desk  # noqa: PLW0603  one an event loop, and a server has one
    if _desk is None or _desk.loop is not asyncio.get_running_loop():
        _desk = threads().desk()
    return _desk


async def warm() -> None:
    """Load Moonshine tiny, and base if it is installed, and have each transcribe a second of silence."""
    for model in (TINY, BASE) if base_folder().is_dir() else (TINY,):
        await desk().transcribe(bytes(BYTES_PER_SECOND), model=model)


def is_ready() -> bool:
    """Whether Moonshine tiny is loaded."""
    return _threads is not None and _threads.is_ready


async def close() -> None:
    """End the threads and forget the models. Safe to call again."""
    global _threads, _desk
    closing, _threads, _desk = _threads, None, None
    if closing:
        await asyncio.to_thread(closing.close)


def build(values: Mapping[str, Any], language: str) -> "LocalSTTService":
    """Make the service for a `language` such as "en"; the values may name a `model`.

    Raises ProviderUnavailable for a model that is not installed.
    """
    model = values.get("model", TINY)
    if model == BASE and not base_folder().is_dir():
        raise ProviderUnavailable("Moonshine base is not installed: `make better-stt`")
    return LocalSTTService(language=language, model=model)


class LocalSTTService(STTService):
    """Transcribes what is said between the voice activity detector's start and stop.

    It takes 16 kHz s16le audio, and includes half a second from before the detected start. While a thread is
    free, it pushes an InterimTranscriptionFrame about every half second. When speech has stopped, it pushes a
    finalized TranscriptionFrame if there are words, and always a SpeechTranscribedFrame. When the caller
    pauses, it transcribes at once, so that the words are ready if speech has ended. It pushes an ErrorFrame
    for a failure, or if a transcript takes longer than FINAL_SECONDS.
    """

    Settings = STTSettings
    _settings: STTSettings

    def __init__(self, *, language: str = "en", model: str = TINY, **kwargs: Any) -> None:
        super().__init__(
            sample_rate=SAMPLE_RATE,
            ttfs_p99_latency=TTFS_P99_SECONDS,
            settings=STTSettings(model=model, language=language),
            **kwargs,
        )
        self._language = Language(language)
        self._model = model
        self._pre_roll: deque[bytes] = deque()
        self._pre_roll_bytes = 0
        self._speaking: Speech | None = None
        # Speeches without a final transcript, oldest first: transcripts are pushed in the order of speech.
        self._speeches: deque[Speech] = deque()
        self._changed = asyncio.Event()
        self._answered = asyncio.Event()
        self._answered.set()
        self._transcribing: asyncio.Task[None] | None = None

    def can_generate_metrics(self) -> bool:
        """True: the time from the end of speech to its words is reported as TTFB."""
        return True

    async def start(self, frame: StartFrame) -> None:
        """Begin to transcribe."""
        await super().start(frame)
        if self._transcribing is None:
            self._transcribing = self.create_task(self._transcribe(), name="transcribe")

    async def stop(self, frame: EndFrame) -> None:
        """Stop, after waiting up to half a second for the last transcript."""
        self._end_speech()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), STOP_SECONDS)
        await super().stop(frame)
        await self._release()

    async def cancel(self, frame: CancelFrame) -> None:
        """Drop all that is not transcribed yet."""
        await super().cancel(frame)
        await self._release()

    async def cleanup(self) -> None:
        """Drop all that is not transcribed yet. May come after `stop` or `cancel`."""
        await super().cleanup()
        await self._release()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the voice activity detector's frames."""
        if isinstance(frame, STTMuteFrame) and frame.mute:
            self._drop_speech()
        await super().process_frame(frame, direction)
        if isinstance(frame, VADUserStartedSpeakingFrame) and not self.is_muted:
            self._start_speech()
        elif isinstance(frame, VADUserStoppedSpeakingFrame):
            self._end_speech()
        elif isinstance(frame, CallerPausedFrame) and self._speaking:
            self._speaking.paused = True
            self._changed.set()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Append audio to the current speech; if there is none, keep it as the possible beginning of one."""
        if speech := self._speaking:
            speech.audio += audio
            if speech.is_due:
                self._changed.set()
        else:
            self._pre_roll.append(audio)
            self._pre_roll_bytes += len(audio)
            while self._pre_roll_bytes - len(self._pre_roll[0]) >= PRE_ROLL_BYTES:
                self._pre_roll_bytes -= len(self._pre_roll.popleft())
        yield None

    def _start_speech(self) -> None:
        self._end_speech()
        self._speaking = Speech(b"".join(self._pre_roll))
        self._speeches.append(self._speaking)
        self._pre_roll.clear()
        self._pre_roll_bytes = 0

    def _end_speech(self) -> None:
        speech, self._speaking = self._speaking, None
        if speech:
            self.request_finalize()
            speech.ended = True
            self._answered.clear()
            self._changed.set()

    def _drop_speech(self) -> None:
        if self._speaking:
            self._speeches.remove(self._speaking)
            self._speaking = None

    async def _transcribe(self) -> None:
        """Transcribe the speeches in their order, each when it becomes long, pauses or ends."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._speeches and await self._go_on(self._speeches[0]):
                pass
            if not self._speeches:
                self._answered.set()

    async def _go_on(self, speech: Speech) -> bool:
        """Do what is due for the oldest speech; return False if nothing is due."""
        if speech.is_long:
            await self._settle(speech)
        elif speech.ended:
            await self._finish(speech)
        elif speech.is_due:
            await self._glance(speech)
        else:
            return False
        return True

    async def _glance(self, speech: Speech) -> None:
        """If a thread is free, transcribe the speech so far and push an interim transcript."""
        audio, paused = speech.look()

        def is_vain() -> bool:
            return speech.ended and not paused

        try:
            transcript = await desk().glance(audio, speech.draft, is_vain, self._model)
        except Exception as e:  # whatever a model raises: the call goes on
            await self.push_error(f"{self.name}: {e}", exception=e)
            return
        if transcript and speech.glimpse(transcript, paused=paused) and speech is self._speaking:
            await self.push_frame(
                InterimTranscriptionFrame(speech.text, self._user_id, time_now_iso8601(), self._language)
            )

    async def _settle(self, speech: Speech) -> None:
        """Transcribe and settle the first piece of a long speech."""
        piece = speech.piece()
        speech.settle(piece, await self._words(piece, speech))
        if len(speech.audio) > MAX_BACKLOG_BYTES:
            del speech.audio[:-MAX_BACKLOG_BYTES]
            await self._push_overload()

    async def _finish(self, speech: Speech) -> None:
        """Push the final transcript of a speech that has ended, and a SpeechTranscribedFrame."""
        piece = speech.piece()
        speech.settle(piece, speech.answer or await self._words(piece, speech))
        self._speeches.remove(speech)
        if speech.text:
            await self.emit_stt_usage_metrics()
            # A transcript is finalized only if no later speech has begun.
            if not self._speeches:
                self.confirm_finalize()
            await self.push_frame(
                TranscriptionFrame(speech.text, self._user_id, time_now_iso8601(), self._language)
            )
        await self.push_frame(SpeechTranscribedFrame())
        if len(self._speeches) > MOST_WAITING:
            while len(self._speeches) > MOST_WAITING:
                self._speeches.popleft()
            await self._push_overload()

    async def _push_overload(self) -> None:
        await self.push_error(f"{self.name}: the embedded speech-to-text can't keep up with the speech")

    async def _words(self, piece: bytes, speech: Speech) -> Transcript | None:
        """Transcribe a piece. If that fails or takes too long, push an error and return None."""
        try:
            async with asyncio.timeout(FINAL_SECONDS):
                return await desk().transcribe(piece, speech.draft, self._model)
        except TimeoutError:
            await self.push_error(
                f"{self.name}: the embedded speech-to-text gave no words within {FINAL_SECONDS:g} s"
            )
        except Exception as e:  # whatever a model raises: the call goes on
            await self.push_error(f"{self.name}: {e}", exception=e)
        return None

    async def _release(self) -> None:
        self._speaking = None
        self._speeches.clear()
        self._answered.set()
        if self._transcribing:
            await self.cancel_task(self._transcribing)
            self._transcribing = None
