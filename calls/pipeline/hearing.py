"""Between the recogniser, whichever it is, and the caller's turns: words that were shown are not lost.

A recogniser may show words while somebody speaks and then, at the end, come up with nothing; or never come.
What it showed last then counts as said.
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

LATE_S = 2.5  # after the end of speech: a final that has not come by then is not waited for
SAME = 0.6  # share of letters that two transcripts of the same speech have in common, at least


@dataclass
class LateTranscriptionFrame(TranscriptionFrame):
    """Words that were shown and count as said, as the recogniser has not made a final of them in time."""


class HeardWords(FrameProcessor):
    """Passes on what the recogniser says; makes a final of the words it showed when it makes none.

    Downstream of it a SpeechTranscribedFrame means that the speech held no words.
    """

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self._speaking = False
        self._heard = False  # a final, since speech last began
        self._shown: InterimTranscriptionFrame | None = None  # the latest, since the last final
        self._owed: InterimTranscriptionFrame | None = None  # the latest of speech that is over
        self._kept = ""  # what was made a final in the recogniser's stead, until its own comes
        self._late: asyncio.TimerHandle | None = None
        self._keeping: set[asyncio.Task[None]] = set()

    async def cleanup(self) -> None:
        """Wait for nothing any more."""
        await super().cleanup()
        self._settle()
        for task in list(self._keeping):
            await self.cancel_task(task)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the recogniser's words."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM and not await self._follow(frame):
            return
        await self.push_frame(frame, direction)

    async def _follow(self, frame: Frame) -> bool:
        """Note what a frame means; whether it goes on."""
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
        """A final has come."""
        if not self._speaking or self._shown is self._owed:
            self._shown = None
        self._heard = True
        self._settle()

    def _is_known(self, text: str) -> bool:
        """Whether this is the late final of what was made one already."""
        kept, self._kept = self._kept, ""
        return bool(kept) and SequenceMatcher(None, kept.lower(), text.lower()).ratio() >= SAME

    def _wait(self) -> None:
        if self._late:
            self._late.cancel()
        if self._owed:
            self._late = asyncio.get_running_loop().call_later(LATE_S, self._give_up)

    def _settle(self) -> None:
        """Nothing is owed."""
        self._owed = None
        if self._late:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        task = self.create_task(self._keep(LateTranscriptionFrame), name="keep")
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, kind: type[TranscriptionFrame]) -> None:
        """Make the words that are owed a final, of this kind."""
        if owed := self._owed:
            final = kind(owed.text, owed.user_id, owed.timestamp, owed.language)
            final.finalized = not self._speaking
            self._take()
            self._kept = owed.text if kind is LateTranscriptionFrame else ""  # else no other will come
            await self.push_frame(final)
