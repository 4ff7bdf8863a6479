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

# Speech is detected some 0.2 s late and its first sounds are soft.
PRE_ROLL_BYTES = int(0.5 * BYTES_PER_SECOND)
# More than this unheard, or so many utterances, is a machine that cannot keep up at all.
MAX_BACKLOG_BYTES = 60 * BYTES_PER_SECOND
MOST_WAITING = 16
FINAL_SECONDS = 4.0
STOP_SECONDS = 0.5
# From the end of speech to the words, with the usual 0.2 s of silence that ends speech.
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
    """Where the calls of the running event loop ask for one of the threads."""
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
    """Recognises what is said between the voice activity detector's start and stop.

    It takes 16 kHz s16le audio, keeps half a second of it from before the detected start, and pushes an
    InterimTranscriptionFrame about every half second while there is a thread to spare, a finalized
    TranscriptionFrame when speech has stopped, unless no words were recognised, and a SpeechTranscribedFrame
    in any case. When the caller pauses, the words are looked for at once: if the pause turns out to be the
    end, they are there. A failure, or no words for FINAL_SECONDS, is an ErrorFrame.
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
        # Not yet answered, oldest first: words are pushed in the order they were spoken.
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
        """End gracefully: wait up to half a second for the last words."""
        self._end_speech()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._answered.wait(), STOP_SECONDS)
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
        elif isinstance(frame, CallerPausedFrame) and self._speaking:
            self._speaking.paused = True
            self._changed.set()

    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None, None]:
        """Take audio to what is being said if someone speaks, else keep it as the possible beginning."""
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
        """Transcribe speech after speech, and each as it becomes long, paused or over."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            while self._speeches and await self._go_on(self._speeches[0]):
                pass
            if not self._speeches:
                self._answered.set()

    async def _go_on(self, speech: Speech) -> bool:
        """Do what is due for the oldest speech; False if there is nothing to do before more is heard."""
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
        """Look for the words so far and show them, if there is a thread to spare."""
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
        """Transcribe the first piece of a long speech, for good."""
        piece = speech.piece()
        speech.settle(piece, await self._words(piece, speech))
        if len(speech.audio) > MAX_BACKLOG_BYTES:
            del speech.audio[:-MAX_BACKLOG_BYTES]
            await self._push_overload()

    async def _finish(self, speech: Speech) -> None:
        """Push the words of a speech that is over, and that it is."""
        piece = speech.piece()
        speech.settle(piece, speech.answer or await self._words(piece, speech))
        self._speeches.remove(speech)
        if speech.text:
            await self.emit_stt_usage_metrics()
            # Words of earlier speech are not the end of what the caller is saying now.
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
        """The transcript of a piece, when it is its turn; None, and an error, if it cannot be had."""
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
