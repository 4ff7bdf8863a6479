"""Where the caller's words become his turns, which the model answers."""

from pipecat.frames.frames import Frame, InputAudioRawFrame, LLMContextFrame
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameDirection

from calls.providers.frames import SpeechTranscribedFrame


class CallerAggregator(LLMUserAggregator):
    """The caller's turns. It is the last processor that listens: what is heard goes no further."""

    _held = False
    _missed = False  # the caller said something since

    def hold(self) -> None:
        """Ask the model for no answer from now on."""
        self._held, self._missed = True, False

    def go_on(self) -> bool:
        """Ask it again; whether the caller has said something meanwhile."""
        missed, self._held, self._missed = self._missed, False, False
        return missed

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push anything but audio and what is told of it."""
        if self._held and isinstance(frame, LLMContextFrame):
            self._missed = True
        elif not isinstance(frame, (InputAudioRawFrame, SpeechTranscribedFrame)):
            await super().push_frame(frame, direction)
