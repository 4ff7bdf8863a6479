"""Where the caller's words become his turns, which the model answers."""

from collections.abc import Callable

from pipecat.frames.frames import Frame, InputAudioRawFrame, LLMContextFrame, LLMContextUserTurnFrame
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameDirection

from calls.providers.frames import SpeechTranscribedFrame


class CallerAggregator(LLMUserAggregator):
    """The caller's turns. It is the last processor that listens: what is heard goes no further."""

    is_last: Callable[[str], bool] | None = None  # whether a turn is left unanswered, as it ends the call
    _held = False
    _missed = False  # the caller said something since
    _ends_here = False  # with what the caller said last

    def hold(self) -> None:
        """Ask the model for no answer from now on."""
        self._held, self._missed = True, False

    def go_on(self) -> bool:
        """Ask it again; whether the caller has said something meanwhile."""
        missed, self._held, self._missed, self._ends_here = self._missed, False, False, False
        return missed

    async def push_frame(self, frame: Frame, direction: FrameDirection = FrameDirection.DOWNSTREAM) -> None:
        """Push anything but audio and what is told of it."""
        if isinstance(frame, LLMContextUserTurnFrame):
            self._ends_here = self.is_last is not None and self.is_last(frame.text)
        if isinstance(frame, LLMContextFrame) and (self._held or self._ends_here):
            self._missed = self._missed or self._held
        elif not isinstance(frame, (InputAudioRawFrame, SpeechTranscribedFrame)):
            await super().push_frame(frame, direction)
