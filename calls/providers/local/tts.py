"""The embedded text-to-speech as a Pipecat service: one shared model, a few threads for all calls."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipecat.frames.frames import Frame, InterruptionFrame, TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.utils.text.transforms import strip_markdown
from pipecat.utils.types import NOT_GIVEN, NotGiven, assert_given

from calls.providers.local import voice

# Synthesis takes a hundredth of the time its speech lasts: two threads serve many calls.
THREADS = min(2, os.cpu_count() or 1)
FRAME_SECONDS = 0.16

Words = list[tuple[str, float]]

_executor: ThreadPoolExecutor | None = None
_warm = False


def _threads() -> ThreadPoolExecutor:
    global _executor  # noqa: PLW0603  one for the server process, shut down by close()
    if _executor is None:
        _executor = ThreadPoolExecutor(THREADS, thread_name_prefix="tts")
    return _executor


async def warm() -> None:
    """Load the voice and speak once with it."""
    global _warm  # noqa: PLW0603  what is_ready() reports
    await asyncio.get_running_loop().run_in_executor(_threads(), voice.load)
    _warm = True


def is_ready() -> bool:
    """Whether the voice has been loaded and has spoken."""
    return _warm


async def close() -> None:
    """End the threads; what waits for them is dropped. Safe to call again."""
    global _executor, _warm
    closing, _executor, _warm = _executor, None, False
    if closing:
        await asyncio.to_thread(closing.shutdown, cancel_futures=True)


async def synthesize(text: str, sample_rate: int) -> bytes:
    """Synthesise a text as s16le mono PCM, without a pipeline, for calls whose own voice has failed."""

    def speak() -> bytes:
        return b"".join(voice.speak(piece, 1.0, sample_rate).pcm for piece in voice.pieces(text))

    return await asyncio.get_running_loop().run_in_executor(_threads(), speak)


def build(values: Mapping[str, Any], language: str) -> "LocalTTSService":
    """Make the service. `values`: voice, speed (1 is the voice's own pace)."""
    settings = LocalTTSSettings(
        model="hibari", voice=values["voice"], language=language, speed=values["speed"]
    )
    return LocalTTSService(settings=settings)


@dataclass
class LocalTTSSettings(TTSSettings):
    """Pipecat's settings of a voice, and the pace: `speed` 1 is the voice's own, 2 is twice as fast."""

    speed: float | NotGiven = field(default_factory=lambda: NOT_GIVEN)


@dataclass
class _Timeline:
    """When the word times of a context start (event loop seconds), and the length of its audio from there."""

    zero: float
    seconds: float


class LocalTTSService(TTSService):
    """Synthesises sentence by sentence, each as soon as it is complete, with the times of the words.

    Words are added to the conversation's context when they are spoken, so that of an interrupted reply the
    context has what the caller heard.
    """

    Settings = LocalTTSSettings
    _settings: LocalTTSSettings

    def __init__(self, *, settings: LocalTTSSettings, **kwargs: Any) -> None:
        super().__init__(
            push_text_frames=False,
            push_start_frame=True,
            push_stop_frames=True,
            settings=settings,
            text_transforms=[("*", strip_markdown)],
            **kwargs,
        )
        self._timelines: dict[str, _Timeline] = {}
        # When all audio so far will have been played, and its length from the start of the last word.
        self._busy_until = 0.0
        self._tail = 0.0

    def can_generate_metrics(self) -> bool:
        """True: the time to the first audio, and the characters spoken, are reported."""
        return True

    async def on_audio_context_completed(self, context_id: str) -> None:
        """Forget the context's times."""
        self._timelines.pop(context_id, None)

    async def on_audio_context_interrupted(self, context_id: str) -> None:
        """Forget the context's times."""
        self._timelines.pop(context_id, None)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Handle a frame as the base class does. After an interruption no audio is left to be played."""
        if isinstance(frame, InterruptionFrame):
            self._busy_until = 0.0
        await super().process_frame(frame, direction)

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Yield the speech of `text` in frames of 160 ms; the times of its words go to the context."""
        loop = asyncio.get_running_loop()
        await self.start_tts_usage_metrics(text)
        speed = assert_given(self._settings.speed)
        for piece in await loop.run_in_executor(_threads(), voice.pieces, text):
            speech = await loop.run_in_executor(_threads(), voice.speak, piece, speed, self.sample_rate)
            begins = self._place(speech, context_id)
            for frame, words in self._frames(speech, context_id):
                yield frame
                await self.add_word_timestamps([(word, begins + at) for word, at in words], context_id)
                # Pipecat's time for a word grows with the text: many words must not be handled at once.
                await asyncio.sleep(0)

    def _place(self, speech: voice.Speech, context_id: str) -> float:
        """Append the speech to its context's timeline; return its start, in seconds of the context."""
        now = asyncio.get_running_loop().time()
        timeline = self._timelines.get(context_id)
        if timeline is None:
            # Pipecat counts a context's times from its first audio, but never from before the last word of a
            # context that still plays. This context's audio comes after all audio of that one.
            zero = max(now, self._busy_until - self._tail)
            timeline = self._timelines[context_id] = _Timeline(zero, max(0.0, self._busy_until - zero))
        # If the reply is written more slowly than it is spoken, there is a gap before this speech.
        begins = max(timeline.seconds, now - timeline.zero)
        timeline.seconds = begins + speech.seconds
        self._busy_until = timeline.zero + timeline.seconds
        self._tail = speech.seconds - speech.words[-1][1]
        return begins

    def _frames(self, speech: voice.Speech, context_id: str) -> Iterator[tuple[TTSAudioRawFrame, Words]]:
        """Cut the speech into frames, each with the words that begin in it."""
        words = deque((word, at) for word, at in speech.words if any(map(str.isalnum, word)))
        size = int(FRAME_SECONDS * self.sample_rate) * 2
        for i in range(0, len(speech.pcm), size):
            end = (i + size) / 2 / self.sample_rate
            begun: Words = []
            while words and words[0][1] < end:
                begun.append(words.popleft())
            frame = TTSAudioRawFrame(speech.pcm[i : i + size], self.sample_rate, 1, context_id=context_id)
            yield frame, begun
