"""Frames that services and the pipeline of this project exchange besides Pipecat's own."""

from dataclasses import dataclass

from pipecat.frames.frames import DataFrame, SystemFrame


@dataclass
class CallerPausedFrame(SystemFrame):
    """The caller, who was speaking, has been silent for a moment: perhaps the end of speech, perhaps not.

    A VADUserStoppedSpeakingFrame follows if the silence lasts. All audio up to here came before.
    """


@dataclass
class SpeechTranscribedFrame(DataFrame):
    """The recogniser has said all it has to say, possibly nothing, about the speech that ended last."""


@dataclass
class ReplyCutFrame(DataFrame):
    """The language model was stopped within its reply, whose end follows; `message` says by what."""

    message: str


@dataclass
class PromptCutFrame(DataFrame):
    """The language model cannot take all of its prompt; `message` says what it takes."""

    message: str
