"""Frames of this project, besides Pipecat's own, between services and the pipeline."""

import asyncio
from dataclasses import dataclass, field

from pipecat.frames.frames import ControlFrame, DataFrame, SystemFrame


@dataclass
class CallerPausedFrame(SystemFrame):
    """The caller has just paused in speaking; whether speech has ended is not known yet.

    A VADUserStoppedSpeakingFrame follows if the silence lasts. All audio up to the pause comes before.
    """


@dataclass
class SpeechTranscribedFrame(DataFrame):
    """All transcripts of the speech that ended last, possibly none, have come before this frame."""


@dataclass
class ReplyCutFrame(DataFrame):
    """The language model was stopped within its reply, whose end follows; `message` says by what."""

    message: str


@dataclass
class PromptCutFrame(DataFrame):
    """The prompt is too long for the language model; `message` says which part of it is used."""

    message: str


@dataclass
class SpokenFrame(ControlFrame):
    """Follows what the agent is to say; `spoken` is set once that has left. An interruption keeps it."""

    interruptible: bool = field(default=False, init=False)
    spoken: asyncio.Event = field(default_factory=asyncio.Event)
