"""Keeps the words of interim transcripts that no final transcript follows.

A speech-to-text service may push interim transcripts while the caller speaks, and then an empty final one or
none at all. The last interim transcript is then made a final one, and so becomes part of the caller's turn.
"""

import asyncio
from dataclasses import dataclass
from difflib import SequenceMatcher

from pipecat.frames.frames import (
    Frame,
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor

from calls.providers.frames import CallerPausedFrame, SpeechTranscribedFrame
from calls.text import whole

LATE_S = 2.5  # how long after the end of speech a final transcript is waited for
SAME = 0.6  # two transcripts with at least this share of letters in common are of the same speech


@dataclass
class LateTranscriptionFrame(TranscriptionFrame):
    """An interim transcript that was made final because none came from the service in time."""


class HeardWords(FrameProcessor):
    """Passes transcripts on; makes the last interim transcript final when the service does not.

    A SpeechTranscribedFrame is passed on only if no final transcript came: the speech had no words.
    """

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self._speaking = False
        self._heard = False  # whether a final has come since speech last began
        self._shown: InterimTranscriptionFrame | None = None  # the latest interim since the last final
        self._owed: InterimTranscriptionFrame | None = None  # of ended speech, without a final so far
        self._kept = ""  # the text that was made final here, until the service's own final comes
        self._late: asyncio.TimerHandle | None = None
        self._keeping: set[asyncio.Task[None]] = set()

    async def cleanup(self) -> None:
        """Stop waiting for finals."""
        await super().cleanup()
        self._settle()
        for task in list(self._keeping):
            await self.cancel_task(task)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the transcripts, and when speech starts and stops."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM and not await self._follow(frame):
            return
        await self.push_frame(frame, direction)

    async def _follow(self, frame: Frame) -> bool:
        """Note what a frame means; return whether to push it."""
        if isinstance(frame, (InterimTranscriptionFrame, TranscriptionFrame)):
            frame.text = whole(frame.text)
        match frame:
            case InterimTranscriptionFrame():
                self._shown = frame
                self._owed = self._owed if self._speaking else frame
            case TranscriptionFrame():
                if not frame.text.strip() or self._is_known(frame.text):
                    return False
                self._take()
            case VADUserStartedSpeakingFrame():
                self._speaking, self._heard = True, False
            case VADUserStoppedSpeakingFrame():
                self._speaking, self._owed = False, self._shown
                self._wait()
            case SpeechTranscribedFrame():
                await self._keep(TranscriptionFrame)
                return not self._heard
            case CallerPausedFrame():
                return False  # meant for the recogniser
        return True

    def _take(self) -> None:
        """Note that a final has come."""
        if not self._speaking or self._shown is self._owed:
            self._shown = None
        self._heard = True
        self._settle()

    def _is_known(self, text: str) -> bool:
        """Whether this final is the service's own, late, of speech whose interim was made final here."""
        kept, self._kept = self._kept, ""
        return bool(kept) and SequenceMatcher(None, kept.lower(), text.lower()).ratio() >= SAME

    def _wait(self) -> None:
        if self._late:
            self._late.cancel()
        if self._owed:
            self._late = asyncio.get_running_loop().call_later(LATE_S, self._give_up)

    def _settle(self) -> None:
        """Note that no final is missing, and stop the timer."""
        self._owed = None
        if self._late:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        task = self.create_task(self._keep(LateTranscriptionFrame), name="keep")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, kind: type[TranscriptionFrame]) -> None:
        """Push the interim transcript without a final, if there is one, as a final frame of this kind."""
        if owed := self._owed:
            final = kind(owed.text, owed.user_id, owed.timestamp, owed.language)
            final.finalized = not self._speaking
            self._take()
            self._kept = owed.text if kind is LateTranscriptionFrame else ""  # else no other final comes
            await self.push_frame(final)
