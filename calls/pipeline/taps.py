"""Which frames of which processor the observer gets, and how it gets them without delaying them.

A handler of each processor's `on_before_push_frame` picks the frames of TAKEN. (A Pipecat observer would be
called for every frame between every two processors, which costs more CPU than the audio itself.)
"""

from collections.abc import Callable
from dataclasses import dataclass

from pipecat.frames.frames import (
    AggregatedTextFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextAssistantTurnFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    TranscriptionFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameProcessor

from calls.events import LLM, PIPELINE, STT, TTS
from calls.pipeline.hearing import LateTranscriptionFrame
from calls.pipeline.reply import WrittenFrame
from calls.pipeline.turn_taking import PassedOverFrame
from calls.providers.frames import PromptCutFrame, ReplyCutFrame, SpeechTranscribedFrame

Take = Callable[[Frame], None]

# Each kind of frame is taken where what it stands for happens: words where they are played, for instance.
TAKEN: dict[str, tuple[type[Frame], ...]] = {
    "stt": (MetricsFrame,),
    "words": (
        InterimTranscriptionFrame,
        TranscriptionFrame,
        LateTranscriptionFrame,
        SpeechTranscribedFrame,
        VADUserStartedSpeakingFrame,  # made by the input; here they are in order with the words
        VADUserStoppedSpeakingFrame,
    ),
    "caller": (LLMContextUserTurnFrame, InterruptionFrame, PassedOverFrame),
    "llm": (LLMTextFrame, ReplyCutFrame, PromptCutFrame, MetricsFrame),
    "reply": (LLMFullResponseStartFrame, WrittenFrame, LLMFullResponseEndFrame),
    "tts": (AggregatedTextFrame, TTSStartedFrame, TTSStoppedFrame, MetricsFrame),
    "output": (BotStartedSpeakingFrame, TTSTextFrame, BotStoppedSpeakingFrame),
    "agent": (LLMContextAssistantTurnFrame,),
}


@dataclass(frozen=True, slots=True)
class Services:
    """The processors whose frames are taken."""

    stt: FrameProcessor
    words: FrameProcessor  # HeardWords
    caller: FrameProcessor  # the aggregator of the caller's turns
    llm: FrameProcessor
    reply: FrameProcessor  # what the model writes, in pieces that can be spoken
    tts: FrameProcessor
    output: FrameProcessor
    agent: FrameProcessor  # the aggregator of the agent's turns

    def part_of(self, processor: FrameProcessor | str | None) -> str:
        """STT, LLM or TTS for these services, given as the object or its name; else PIPELINE."""
        for part in (STT, LLM, TTS):
            service = getattr(self, part)
            if processor is service or processor == service.name:
                return part
        return PIPELINE


def tap(services: Services, take: Take) -> None:
    """Call `take` with every frame of TAKEN, and with every error of a service or of the output."""
    for name, kinds in TAKEN.items():
        _tap(getattr(services, name), frozenset(kinds), take)

    def take_error(processor: FrameProcessor, frame: ErrorFrame) -> None:
        frame.processor = frame.processor or processor
        take(frame)

    for processor in (services.stt, services.llm, services.tts, services.output):
        processor.add_event_handler("on_error", take_error)


def _tap(processor: FrameProcessor, wanted: frozenset[type[Frame]], take: Take) -> None:
    def take_wanted(_processor: FrameProcessor, frame: Frame) -> None:
        if type(frame) not in wanted or (frame.broadcast_sibling_id or frame.id) < frame.id:
            return  # a frame that is pushed both ways is two; the one that was made first counts
        if isinstance(frame, MetricsFrame) and not any(
            item.processor == processor.name for item in frame.data
        ):
            return  # made by another processor, or empty
        take(frame)

    processor.add_event_handler("on_before_push_frame", take_wanted)
