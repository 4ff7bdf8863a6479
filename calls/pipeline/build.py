"""Builds the Pipecat pipeline of one call from the call's configuration."""

import asyncio
from functools import partial
from typing import Any, cast

from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMAssistantAggregator,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.workers.runner import WorkerRunner

from calls.audio.format import AS_A_TELEPHONE, SAMPLE_RATE, VoiceOut
from calls.events import LLM, Shortened, Sink
from calls.pipeline import silero, smart_turn, turn_taking, typed
from calls.pipeline.caller import CallerAggregator
from calls.pipeline.conversation import STOP_S, Conversation
from calls.pipeline.hearing import HeardWords
from calls.pipeline.input import RustPBXInput
from calls.pipeline.keys import Keys
from calls.pipeline.noise import NoiseSuppression
from calls.pipeline.observer import ConversationObserver
from calls.pipeline.output import RustPBXOutput
from calls.pipeline.playout import SendAudio
from calls.pipeline.reply import Reply
from calls.pipeline.taps import Services
from calls.pipeline.vad import SharedSileroVAD
from calls.profiles.in_force import CallConfig, Provider, StandIn
from calls.providers import catalogue


def build(
    config: CallConfig,
    *,
    system_prompt: str,
    send_audio: SendAudio,
    emit: Sink,
    started: float,
    voice: VoiceOut = AS_A_TELEPHONE,
    is_typed: bool = False,
) -> Conversation:
    """Make the pipeline of one call.

    Args:
        config: the call's configuration.
        system_prompt: the prompt in force at the start.
        send_audio: sends 20 ms of the agent's voice.
        emit: is called with what happens, as events.
        started: when the call started, in seconds of time.monotonic().
        voice: how the agent's voice is sent; the services speak at its rate.
        is_typed: the caller types and reads: there is no speech-to-text and no voice.
    """
    stood_in: dict[str, StandIn] = {}
    stt = typed.no_ears() if is_typed else _service("stt", config.stt, config, stood_in)
    llm = _service("llm", config.llm, config, stood_in, system_prompt)
    tts = typed.NoVoice() if is_typed else _service("tts", config.tts, config, stood_in)
    interrupt = config.allow_interruptions
    strategies = typed.turn_strategies(interrupt=interrupt) if is_typed else turn_taking.strategies(config)
    context = LLMContext()
    caller = CallerAggregator(
        context,
        params=LLMUserAggregatorParams(user_turn_strategies=strategies),
    )
    agent = LLMAssistantAggregator(context)
    clean = NoiseSuppression() if config.noise_suppression else None
    hearing, speaking = RustPBXInput(SharedSileroVAD(), clean), RustPBXOutput(send_audio, voice)
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
        answering = stood_in["llm"].provider if "llm" in stood_in else config.llm.name
        fitting, cut = catalogue.fit_prompt(answering, prompt)
        if cut:
            emit(Shortened(LLM, cut))
        return fitting

    fit_prompt(system_prompt)
    return Conversation(
        hearing, speaking, worker, runner, services, observer, caller, stood_in, voice, fit_prompt
    )


async def warm() -> None:
    """Load all models at once, then build pipelines and drop them, so that the first call does not wait."""
    loading = (asyncio.to_thread(silero.warm), asyncio.to_thread(smart_turn.warm), catalogue.warm())
    await asyncio.gather(*loading)
    nobody = cast(Any, None)  # the pipeline never runs, so these are never called
    for provider in (Provider(catalogue.AUTO), Provider(catalogue.LOCAL)):
        config = CallConfig("", "", "", "", "en", stt=provider, llm=provider, tts=provider)
        build(config, system_prompt="", send_audio=nobody, emit=nobody, started=0.0)


def _service(
    kind: str, provider: Provider, config: CallConfig, stood_in: dict[str, StandIn], system_prompt: str = ""
) -> FrameProcessor:
    """Make the service that the configuration names; if that cannot be, its fallback, or the embedded one.

    What stands in, and why, is then stored in `stood_in`.
    """
    create = partial(catalogue.create, kind, system_prompt=system_prompt)
    why = ""
    for name, settings in ((provider.name, provider.settings), *config.fallbacks(kind)):
        language = config.language if name != catalogue.LOCAL or not why else "en"
        try:
            service = create(name, settings, language=language)
        except (ValueError, catalogue.ProviderUnavailable) as e:
            why = f"{why}; {e}" if why else str(e)
            continue
        if why:
            stood_in[kind] = StandIn(name, why)
        return service
    raise catalogue.ProviderUnavailable(why)
