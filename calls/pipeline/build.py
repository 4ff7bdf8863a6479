"""Builds the Pipecat pipeline of one call from the call's configuration, and runs it."""

import asyncio
import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from pipecat.frames.frames import (
    EndFrame,
    Frame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    LLMAssistantPushAggregationFrame,
    LLMUpdateSettingsFrame,
    TextType,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMAssistantAggregator,
    LLMUserAggregator,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.openai.base_llm import OpenAILLMSettings
from pipecat.turns.user_start import TranscriptionUserTurnStartStrategy, VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy, TurnAnalyzerUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.workers.runner import WorkerRunner

from calls.audio.format import AS_A_TELEPHONE, SAMPLE_RATE, VoiceOut
from calls.events import LLM, Shortened, Sink
from calls.pipeline import silero, smart_turn
from calls.pipeline.hearing import HeardWords
from calls.pipeline.input import RustPBXInput
from calls.pipeline.keys import Keys, key_of
from calls.pipeline.observer import ConversationObserver
from calls.pipeline.output import RustPBXOutput
from calls.pipeline.playout import SendAudio
from calls.pipeline.reply import Reply
from calls.pipeline.smart_turn import SharedSmartTurn
from calls.pipeline.taps import Services
from calls.pipeline.vad import WINDOW_BYTES, SharedSileroVAD
from calls.profiles.in_force import CallConfig, Provider
from calls.providers import catalogue
from calls.providers.frames import SpeechTranscribedFrame

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
    stood_in: dict[str, str]  # by kind of service, why the embedded one took its place
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


def build(
    config: CallConfig,
    *,
    system_prompt: str,
    send_audio: SendAudio,
    emit: Sink,
    started: float,
    voice: VoiceOut = AS_A_TELEPHONE,
) -> Conversation:
    """Make the pipeline of one call.

    Args:
        config: the call's configuration.
        system_prompt: the prompt in force at the start.
        send_audio: sends 20 ms of the agent's voice.
        emit: is called with what happens, as events.
        started: when the call started, in seconds of time.monotonic().
        voice: how the agent's voice is sent; the services speak at its rate.
    """
    stood_in: dict[str, str] = {}
    stt = _service("stt", config.stt, config, stood_in)
    llm = _service("llm", config.llm, config, stood_in, system_prompt)
    tts = _service("tts", config.tts, config, stood_in)
    context = LLMContext()
    caller = CallerAggregator(
        context,
        params=LLMUserAggregatorParams(user_turn_strategies=_turn_strategies(config)),
    )
    agent = LLMAssistantAggregator(context)
    hearing, speaking = RustPBXInput(SharedSileroVAD()), RustPBXOutput(send_audio, voice)
    words, reply = HeardWords(), Reply(config.language)
    services = Services(
        stt=stt, words=words, caller=caller, llm=llm, reply=reply, tts=tts, output=speaking, agent=agent
    )
    observer = ConversationObserver(services, emit, started=started, language=config.language)
    keys = Keys(interrupt=config.allow_interruptions)
    pipeline = Pipeline([hearing, stt, keys, words, caller, llm, reply, tts, speaking, agent])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=SAMPLE_RATE, audio_out_sample_rate=voice.rate, enable_metrics=True
        ),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,  # the consumer ends calls whose client went silent
        cancel_timeout_secs=STOP_S,
        setup_timeout_secs=10,
        start_timeout_secs=10,
    )
    runner = WorkerRunner(handle_sigint=False)

    def fit_prompt(prompt: str) -> str:
        answering = catalogue.LOCAL if "llm" in stood_in else config.llm.name
        fitting, cut = catalogue.fit_prompt(answering, prompt)
        if cut:
            emit(Shortened(LLM, cut))
        return fitting

    fit_prompt(system_prompt)
    return Conversation(hearing, speaking, worker, runner, services, observer, stood_in, voice, fit_prompt)


class CallerAggregator(LLMUserAggregator):
    """Collects the caller's turns. No later processor needs the caller's audio, so it is not pushed on."""

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push anything but the caller's audio and SpeechTranscribedFrames."""
        if not isinstance(frame, (InputAudioRawFrame, SpeechTranscribedFrame)):
            await super().push_frame(frame, direction)


async def warm() -> None:
    """Load all models at once, then build pipelines and drop them, so that the first call does not wait."""
    loading = (asyncio.to_thread(silero.warm), asyncio.to_thread(smart_turn.warm), catalogue.warm())
    await asyncio.gather(*loading)
    nobody = cast(Any, None)  # the pipeline never runs, so these are never called
    for provider in (Provider(catalogue.AUTO), Provider(catalogue.LOCAL)):
        config = CallConfig("", "", "", "", "en", stt=provider, llm=provider, tts=provider)
        build(config, system_prompt="", send_audio=nobody, emit=nobody, started=0.0)


def _service(
    kind: str, provider: Provider, config: CallConfig, stood_in: dict[str, str], system_prompt: str = ""
) -> FrameProcessor:
    """Make the service that the configuration names, or the embedded one if that cannot be made.

    In that case the reason is stored in `stood_in`.
    """
    create = partial(catalogue.create, kind, system_prompt=system_prompt)
    try:
        return create(provider.name, provider.settings, language=config.language)
    except (ValueError, catalogue.ProviderUnavailable) as e:
        stood_in[kind] = str(e)
        return create(catalogue.LOCAL, {}, language="en")


def _turn_strategies(config: CallConfig) -> UserTurnStrategies:
    interrupt = config.allow_interruptions
    stop = (
        TurnAnalyzerUserTurnStopStrategy(turn_analyzer=SharedSmartTurn())
        if config.end_of_turn == "smart"
        else SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=config.end_of_turn_silence_s)
    )
    return UserTurnStrategies(
        start=[
            VADUserTurnStartStrategy(enable_interruptions=interrupt),
            TranscriptionUserTurnStartStrategy(enable_interruptions=interrupt),
        ],
        stop=[stop],
    )
