"""A call whose caller types and reads: what stands in the pipeline for the ears and the voice."""

from collections.abc import AsyncGenerator

from pipecat.frames.frames import (
    Frame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.turns.types import ProcessFrameResult
from pipecat.turns.user_stop import BaseUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.text.transforms import strip_markdown
from pipecat.utils.time import time_now_iso8601

from calls.audio.format import frame_bytes
from calls.pipeline.turn_taking import any_speech


def no_ears() -> IdentityFilter:
    """What stands in the place of speech-to-text: it passes everything on, at once."""
    return IdentityFilter(enable_direct_mode=True)


class NoVoice(TTSService):
    """In the place of the voice: a sentence is said as soon as it is written, by 20 ms of silence."""

    def __init__(self) -> None:
        super().__init__(
            push_start_frame=True,
            push_stop_frames=True,
            settings=TTSSettings(model=None, voice=None, language=None),
            text_transforms=[("*", strip_markdown)],
        )

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None, None]:
        """Yield the silence that stands for the text."""
        silence = bytes(frame_bytes(self.sample_rate))
        yield TTSAudioRawFrame(silence, self.sample_rate, 1, context_id=context_id)


class TypedTurnStopStrategy(BaseUserTurnStopStrategy):
    """What was typed is a whole turn."""

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """End the turn with the text."""
        if isinstance(frame, TranscriptionFrame):
            await self.trigger_user_turn_stopped()
        return ProcessFrameResult.CONTINUE


def turn_strategies(*, interrupt: bool) -> UserTurnStrategies:
    """When a turn of somebody who types begins and ends; `interrupt`: it cuts a reply short."""
    return UserTurnStrategies(start=any_speech(interrupt=interrupt), stop=[TypedTurnStopStrategy()])


def frames_of(text: str) -> list[Frame]:
    """What was typed as the pipeline takes it: as speech that lasted no time, and its words."""
    words = TranscriptionFrame(text, "", time_now_iso8601(), finalized=True)
    words.interruptible = False  # it interrupts the reply before, and is not to be lost with it
    return [VADUserStartedSpeakingFrame(start_secs=0.0), VADUserStoppedSpeakingFrame(stop_secs=0.0), words]
