"""A running pipeline, as the call sees it: what it hears, what it is to say, when it stops."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputDTMFFrame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMMessagesAppendFrame,
    LLMUpdateSettingsFrame,
    TextType,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.worker import PipelineWorker
from pipecat.services.openai.base_llm import OpenAILLMSettings
from pipecat.workers.runner import WorkerRunner

from calls.audio.format import VoiceOut
from calls.pipeline import typed
from calls.pipeline.caller import CallerAggregator
from calls.pipeline.input import RustPBXInput
from calls.pipeline.keys import key_of
from calls.pipeline.observer import ConversationObserver
from calls.pipeline.output import RustPBXOutput
from calls.pipeline.taps import Services
from calls.pipeline.vad import WINDOW_BYTES
from calls.profiles.in_force import StandIn
from calls.providers import catalogue
from calls.providers.frames import SpokenFrame

logger = logging.getLogger(__name__)

STOP_S = 1.5  # a pipeline that has not stopped by then is cancelled hard


@dataclass(slots=True)
class Conversation:
    """A call's running pipeline."""

    input: RustPBXInput
    output: RustPBXOutput
    worker: PipelineWorker
    runner: WorkerRunner
    services: Services
    observer: ConversationObserver
    caller: CallerAggregator
    stood_in: dict[str, StandIn]  # by kind of service, what took the place of the profile's
    voice: VoiceOut
    fit_prompt: Callable[[str], str]  # what the model takes of a prompt; tells if that is not all
    task: asyncio.Task[None] | None = None
    finishing: bool = False  # what is queued is still spoken

    def start(self, ended: Callable[[], None]) -> None:
        """Run the pipeline in a task of its own; `ended` is called when it is over, for whatever reason."""
        self.task = asyncio.create_task(self._run(), name="pipeline")
        self.task.add_done_callback(lambda _: ended())

    async def _run(self) -> None:
        observing = asyncio.create_task(self.observer.run(), name="observer")
        try:
            await self.runner.add_workers(self.worker)
            await self.runner.run()
        finally:
            observing.cancel()
            await asyncio.wait({observing})
            self.observer.drain()

    @property
    def cadence_bytes(self) -> int:
        """The bytes of the caller's voice that are judged at once; less of it need not be read yet."""
        return WINDOW_BYTES

    def hear(self, pcm: bytes) -> None:
        """Take the caller's voice: s16le at 16 kHz."""
        self.input.feed(pcm)

    async def press(self, digit: str) -> None:
        """Take a key that the caller pressed."""
        if key := key_of(digit):
            await self.worker.queue_frame(InputDTMFFrame(button=key))

    async def type(self, text: str) -> None:
        """Take what the caller typed, as a turn of his."""
        for frame in typed.frames_of(text):
            await self.services.words.queue_frame(frame)

    async def say(self, text: str, *, interruptible: bool = True) -> None:
        """Speak a text as it is, in the embedded voice if the call's own is not usable.

        The text becomes part of the model's context.
        """
        if not self.services.tts.is_usable:
            await self.say_with_embedded_voice(text, interruptible=interruptible)
            return
        frame = TTSSpeakFrame(text)
        frame.interruptible = interruptible
        await self.worker.queue_frame(frame)

    async def prompt(self, system_prompt: str) -> None:
        """Use another system prompt from the next reply on."""
        settings = OpenAILLMSettings(system_instruction=self.fit_prompt(system_prompt))
        await self.worker.queue_frame(LLMUpdateSettingsFrame(delta=settings))

    def hold(self) -> None:
        """Leave unanswered what the caller says from now on; it is heard, and becomes part of the talk."""
        self.caller.hold()

    async def go_on(self, note: str = "") -> bool:
        """Answer again, first of all what the caller has said since `hold`; whether the model is asked.

        A `note` is for the model, which then has something to say in any case.
        """
        missed = self.caller.go_on()
        if not (missed or note):
            return False
        self.observer.forget_wait()
        messages: list[Any] = [{"role": "developer", "content": note}] if note else []
        frame = LLMMessagesAppendFrame(messages, run_llm=True)
        frame.interruptible = False
        await self.worker.queue_frame(frame)
        return True

    async def give_up_reply(self) -> None:
        """Stop the reply that is being written or spoken."""
        await self.worker.queue_frame(InterruptionFrame())

    async def say_with_embedded_voice(self, text: str, *, interruptible: bool = True) -> None:
        """Speak a text in the embedded voice, when the call's own has failed. It joins the context, too."""
        pcm = await catalogue.emergency_speech(text, self.voice.rate)
        context_id = f"emergency-{uuid.uuid4()}"
        frames: list[Frame] = [
            TTSStartedFrame(context_id=context_id),
            TTSAudioRawFrame(pcm, self.voice.rate, 1, context_id=context_id),
            TTSTextFrame(text, TextType.SENTENCE, context_id=context_id),
            TTSStoppedFrame(context_id=context_id),
            LLMAssistantPushAggregationFrame(),
        ]
        for frame in frames:
            frame.interruptible = interruptible
            await self.output.queue_frame(frame)

    @property
    def is_over(self) -> bool:
        """Whether the pipeline has run and ended."""
        return self.task is not None and self.task.done()

    async def spoken(self) -> None:
        """Wait until what is queued has been spoken, or the pipeline has ended."""
        frame = SpokenFrame()
        first = self.worker if self.services.tts.is_usable else self.output
        await first.queue_frame(frame)
        waiting = {asyncio.create_task(frame.spoken.wait()), *([self.task] if self.task else [])}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waiting - {self.task}:
                each.cancel()

    async def finish(self) -> None:
        """Speak what is queued, then stop."""
        self.finishing = True
        await self.worker.queue_frame(EndFrame())
        if self.task is not None:
            await asyncio.wait({self.task})

    async def stop(self) -> None:
        """Stop at once and wait until all tasks have ended, for at most about 2 s. May be called again."""
        task = self.task
        if task is None or task.done():
            return
        if self.finishing:  # Pipecat cancels nothing while its last frame waits for the voice
            await self.output.silence()
        await self.runner.cancel()
        await asyncio.wait({task}, timeout=STOP_S)
        if not task.done():
            logger.error("a pipeline did not stop within %s s and is cancelled", STOP_S)
            left = {task, *self.runner.task_manager.current_tasks()}
            for each in left:
                each.cancel()
            await asyncio.wait(left, timeout=0.4)
