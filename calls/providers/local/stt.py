"""The embedded speech-to-text as a Pipecat service: Moonshine, in threads that all calls share."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
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
from calls.providers.local import phantoms
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

BYTES_PER_SECOND = SAMPLE_RATE * 2
# Speech is detected some 0.2 s late and its first sounds are soft.
PRE_ROLL_BYTES = int(0.5 * BYTES_PER_SECOND)
PARTIAL_BYTES = int(0.5 * BYTES_PER_SECOND)  # of new speech, before its words are shown
# Long speech is transcribed in pieces, cut where it is quietest: the encoder's work grows with the square.
PIECE_BYTES = 12 * BYTES_PER_SECOND
EARLIEST_CUT = 6 * SAMPLE_RATE
QUIET_SAMPLES = SAMPLE_RATE // 10  # as long a quiet moment is looked for
MAX_BACKLOG_BYTES = 60 * BYTES_PER_SECOND  # more of it is a machine that cannot keep up at all
# Silence after what was transcribed in a pause; more may be speech.
PAUSE_BYTES = int(0.15 * BYTES_PER_SECOND)
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
        others = {BASE: lambda: Moonshine(base_folder())}
        _threads = Threads(lambda: Moonshine(tiny_folder()), count, others)
    return _threads


def desk() -> Desk:
    """Where the calls of the running event loop ask for one of the threads."""
    global _desk  # noqa: PLW0603  one an event loop, and a server has one
    if _desk is None or _desk.loop is not asyncio.get_running_loop():
        _desk = threads().desk()
    return _desk


async def warm() -> None:
    """Load Moonshine tiny and transcribe a second of silence."""
    await desk().transcribe(bytes(BYTES_PER_SECOND))


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


class _Speech:
    """One stretch of speech, and how far it has been transcribed."""

    def __init__(self, pre_roll: bytes) -> None:
        self.audio = bytearray(pre_roll)  # what is not settled
        self.settled: list[str] = []  # the words of the pieces before
        self.ended = False
        self.paused = False  # a pause has begun whose words have not been looked at
        self.shown = ""
        self.looked_at = len(self.audio)  # bytes of `audio` there were at the last glance
        self.draft: tuple[int, ...] = ()
        self.answer: tuple[int, Transcript] | None = None  # of so many bytes, at the beginning of a pause

    @property
    def is_due(self) -> bool:
        """Whether it is time to show words."""
        return self.paused or len(self.audio) - self.looked_at >= PARTIAL_BYTES

    def text(self, transcript: Transcript) -> str:
        """All words so far."""
        return " ".join(filter(None, [*self.settled, phantoms.spoken(transcript)]))


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
        self._speaking: _Speech | None = None
        # Not yet answered, oldest first: words are pushed in the order they were spoken.
        self._speeches: deque[_Speech] = deque()
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
        self._speaking = _Speech(b"".join(self._pre_roll))
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

    async def _go_on(self, speech: _Speech) -> bool:
        """Do what is due for the oldest speech; False if there is nothing to do before more is heard."""
        if len(speech.audio) > PIECE_BYTES:
            await self._settle(speech)
        elif speech.ended:
            await self._finish(speech)
        elif speech.is_due:
            await self._glance(speech)
        else:
            return False
        return True

    async def _glance(self, speech: _Speech) -> None:
        """Look for the words so far and show them, if there is a thread to spare."""
        size, paused, speech.paused = len(speech.audio), speech.paused, False
        speech.looked_at = size

        def is_vain() -> bool:
            return speech.ended and not paused

        try:
            transcript = await desk().glance(bytes(speech.audio), speech.draft, is_vain, self._model)
        except Exception as e:  # whatever a model raises: the call goes on
            await self.push_error(f"{self.name}: {e}", exception=e)
            return
        if transcript is None:
            return
        speech.draft = transcript.tokens
        if paused:
            speech.answer = (size, transcript)
        text = speech.text(transcript)
        if text and text != speech.shown and not speech.ended and speech in self._speeches:
            speech.shown = text
            await self.push_frame(
                InterimTranscriptionFrame(text, self._user_id, time_now_iso8601(), self._language)
            )

    async def _settle(self, speech: _Speech) -> None:
        """Transcribe the first piece of a long speech, for good."""
        size = quietest(bytes(speech.audio[:PIECE_BYTES]))
        piece = bytes(speech.audio[:size])
        transcript = await self._words(piece, speech.draft)
        del speech.audio[:size]
        speech.looked_at, speech.draft, speech.answer = 0, (), None
        if transcript and (text := phantoms.spoken(transcript)):
            speech.settled.append(text)
        if len(speech.audio) > MAX_BACKLOG_BYTES:
            del speech.audio[:-MAX_BACKLOG_BYTES]
            await self.push_error(f"{self.name}: the embedded speech-to-text can't keep up with the speech")

    async def _finish(self, speech: _Speech) -> None:
        """Push the words of a speech that is over, and that it is."""
        size, transcript = speech.answer or (0, None)
        if transcript is None or len(speech.audio) - size > PAUSE_BYTES:
            transcript = await self._words(bytes(speech.audio), speech.draft)
        self._speeches.remove(speech)
        if text := speech.text(transcript or Transcript("", (), 0.0, ended=True)):
            await self.emit_stt_usage_metrics()
            # Words of earlier speech are not the end of what the caller is saying now.
            if not self._speeches:
                self.confirm_finalize()
            await self.push_frame(TranscriptionFrame(text, self._user_id, time_now_iso8601(), self._language))
        await self.push_frame(SpeechTranscribedFrame())

    async def _words(self, pcm: bytes, draft: tuple[int, ...]) -> Transcript | None:
        """The transcript of speech, when it is its turn; None, and an error, if it cannot be had."""
        try:
            async with asyncio.timeout(FINAL_SECONDS):
                return await desk().transcribe(pcm, draft, self._model)
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


def quietest(pcm: bytes) -> int:
    """Where to cut s16le audio, in bytes: in the quietest tenth of a second after the first six."""
    samples = np.frombuffer(pcm, "<i2")[EARLIEST_CUT:].astype(np.float32)
    steps = samples[: len(samples) // QUIET_SAMPLES * QUIET_SAMPLES].reshape(-1, QUIET_SAMPLES)
    quiet = int((steps**2).sum(axis=1).argmin())
    return 2 * (EARLIEST_CUT + quiet * QUIET_SAMPLES + QUIET_SAMPLES // 2)
