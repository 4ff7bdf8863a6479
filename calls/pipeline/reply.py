"""Splits the language model's reply into pieces for text-to-speech, as the text comes.

A piece is a sentence. If a sentence takes long to be written, the part so far is spoken when the agent has
nothing else to say, so that the caller does not wait for the end of a slow model's sentence.
"""

import asyncio
import re
from dataclasses import dataclass

from pipecat.frames.frames import (
    AggregatedTextFrame,
    DataFrame,
    Frame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.utils.string import match_endofsentence
from pipecat.utils.text.base_text_aggregator import TextType
from pipecat.utils.text.simple_text_aggregator import SimpleTextAggregator

from calls.providers.frames import ReplyCutFrame
from calls.text import WholeText

# A sentence seems complete, but only the next word would prove it ("Dr." is none): wait this long for it.
SENTENCE_S = 0.5
# If a sentence is not complete this long after its first word, its part so far may be spoken.
UNFINISHED_S = 1.5
FEWEST_WORDS = 4  # the shortest part of an unfinished sentence that is spoken by itself
SPOKEN_S = 0.06  # the time a character takes to be spoken, at people's usual pace
AHEAD_S = 0.5  # the next part is given to the voice this long before the voice has said all it has
_CLAUSE_END = re.compile(r"[,;:—–](?=\s)")


@dataclass
class WrittenFrame(DataFrame):
    """A piece of the reply, as the language model has written it. The voice gets it next."""

    text: str


class Reply(FrameProcessor):
    """Makes pieces of the model's text, usually sentences.

    Args:
        language: of the text, such as "en"; its abbreviations do not end sentences.
    """

    def __init__(self, language: str) -> None:
        super().__init__(enable_direct_mode=True)
        self._sentences = SimpleTextAggregator(language=language)
        self._characters = WholeText()
        self._turn = asyncio.Lock()  # held while a word is added, or the timer's work is done
        self._timer: asyncio.TimerHandle | None = None
        self._speaking_up: asyncio.Task[None] | None = None
        self._unfinished_since: float | None = None  # when the first word of the current sentence came
        self._ends_in_space = False  # whether the text so far does
        self._silent_at = 0.0  # when the voice will have said all it was given, by the event loop's clock
        self._given = False  # whether a piece of this reply has been given to the voice
        self._is_cut = False  # whether the model was stopped before the reply's end

    async def cleanup(self) -> None:
        """Stop the timer and its task."""
        await super().cleanup()
        self._stop_waiting()
        if self._speaking_up:
            await self.cancel_task(self._speaking_up)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Follow the model's text."""
        await super().process_frame(frame, direction)
        match frame:
            case LLMTextFrame():
                async with self._turn:
                    await self._add(self._characters.add(frame.text))
                return
            case ReplyCutFrame():
                self._is_cut = True
            case LLMFullResponseStartFrame():
                await self._begin()
            case LLMFullResponseEndFrame():
                async with self._turn:
                    await self._end()
            case InterruptionFrame():
                await self._begin()
                self._silent_at = 0.0
        await self.push_frame(frame, direction)

    async def _begin(self) -> None:
        """Begin a reply: drop what is left of the last one."""
        self._stop_waiting()
        await self._sentences.reset()
        self._characters.end()
        self._unfinished_since = None
        self._given = self._is_cut = False

    async def _add(self, text: str) -> None:
        if text:
            self._ends_in_space = text[-1].isspace()
        async for sentence in self._sentences.aggregate(text):
            await self._give(sentence.text)
        if self._sentences.text.text.strip():
            self._unfinished_since = self._unfinished_since or asyncio.get_running_loop().time()
        self._wait()

    async def _end(self) -> None:
        """Give the voice what is left, without the unfinished sentence at the end of a reply that was cut."""
        self._stop_waiting()
        rest = await self._sentences.flush()
        text = rest.text.strip() if rest else ""
        if self._is_cut:
            whole = match_endofsentence(text, language=self._sentences.language)
            text = text[:whole] if whole or self._given else text[: _clause_end(text)]
        if text:
            await self._give(text)

    async def _give(self, text: str) -> None:
        """Give a piece to the voice."""
        self._unfinished_since = None
        if text := text.strip():
            self._given = True
            self._silent_at = max(self._silent_at, asyncio.get_running_loop().time()) + len(text) * SPOKEN_S
            await self.push_frame(WrittenFrame(text))
            await self.push_frame(AggregatedTextFrame(text, TextType.SENTENCE, raw_text=text))

    # --- Sentences that take long to be written -----------------------------------------------------------

    def _wait(self) -> None:
        """Set the timer after which the part so far is spoken, unless more comes."""
        self._stop_waiting()
        if self._unfinished_since is None:
            return
        loop = asyncio.get_running_loop()
        if self._seems_over():
            at = loop.time() + SENTENCE_S
        else:
            at = max(self._unfinished_since + UNFINISHED_S, self._silent_at - AHEAD_S)
        self._timer = loop.call_at(at, self._speak_up)

    def _stop_waiting(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _seems_over(self) -> bool:
        text = self._sentences.text.text.rstrip()
        if text[-1:].isalnum():  # nearly always; the check below takes 30 µs
            return False
        return match_endofsentence(text, language=self._sentences.language) == len(text)

    def _speak_up(self) -> None:
        self._speaking_up = self.create_task(self._give_what_there_is(), name="speak_up")

    async def _give_what_there_is(self) -> None:
        async with self._turn:
            if self._unfinished_since is None:
                return  # it has been given, or interrupted, meanwhile
            # The aggregator strips the space at the end, which shows that the last word is complete.
            text = self._sentences.text.text + " " * self._ends_in_space
            cut = len(text) if self._seems_over() else _unfinished_cut(text)
            if not cut:
                return  # too short; the next word sets the timer again
            await self._sentences.reset()
            await self._give(text[:cut])
            await self._add(text[cut:].lstrip())


def _clause_end(text: str) -> int:
    """The end of the last clause; the end of the text if there is only one."""
    return max((match.end() for match in _CLAUSE_END.finditer(text)), default=len(text))


def _unfinished_cut(text: str) -> int:
    """Where to cut an unfinished sentence: after a clause, else after a word; 0 if it is too short."""
    clauses = [match.end() for match in _CLAUSE_END.finditer(text)]
    # The last word may be incomplete: the model's text need not come in whole words.
    cut = clauses[-1] if clauses else text.rfind(" ") + 1
    return cut if len(text[:cut].split()) >= FEWEST_WORDS else 0
