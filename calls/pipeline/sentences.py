"""The agent's sentences: as the model writes them, and as they are spoken."""

from collections import deque

from pipecat.frames.frames import AggregatedTextFrame, TTSTextFrame
from pipecat.utils.string import (
    TextPartForConcatenation,
    concatenate_aggregated_text,
    match_endofsentence,
)

from calls.events import Said, Saying, Sink, Wrote


def sentences_of(text: str) -> list[str]:
    """Split the text into its sentences."""
    sentences = []
    while end := match_endofsentence(text):
        sentences.append(text[:end].strip())
        text = text[end:]
    return [sentence for sentence in [*sentences, text.strip()] if sentence]


class Words:
    """Words as they are spoken, joined as their language joins them: some bring their own spaces."""

    def __init__(self) -> None:
        self._parts: list[TextPartForConcatenation] = []

    def add(self, frame: TTSTextFrame) -> None:
        """The next word, or words."""
        self._parts.append(TextPartForConcatenation(frame.text, bool(frame.includes_inter_frame_spaces)))

    def clear(self) -> None:
        """Begin anew."""
        self._parts = []

    @property
    def text(self) -> str:
        """All of them."""
        return concatenate_aggregated_text(self._parts).strip()


class WrittenReply:
    """The model's reply while it is being written, as far as the voice gets it."""

    def __init__(self, emit: Sink) -> None:
        self._emit = emit
        self._pieces: list[str] | None = None  # None: nothing is being written

    @property
    def is_open(self) -> bool:
        """Whether the model is writing."""
        return self._pieces is not None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written yet."""
        return not self._pieces

    def start(self) -> None:
        """The model begins a reply."""
        self._pieces = []

    def add(self, piece: str) -> None:
        """The model wrote `text` next."""
        if self._pieces is not None:
            self._pieces.append(piece)
            self._emit(Wrote(piece, is_complete=False))

    def close(self) -> None:
        """End the reply with what has been written so far."""
        if self._pieces:
            self._emit(Wrote(" ".join(self._pieces), is_complete=True))
        self._pieces = None


class SpokenSentences:
    """Finds out which sentence is being spoken, from the words as they are played."""

    def __init__(self, emit: Sink) -> None:
        self._emit = emit
        self._announced: dict[int, AggregatedTextFrame] = {}  # texts about to be spoken, by the frame's id
        self._segment: int | None = None  # the text being spoken
        self._interruptible = True
        self._cut: set[int] = set()  # texts that were interrupted; words of theirs may still arrive
        self._coming: deque[str] = deque()  # its sentences, still to come
        self._sentence = ""  # the one being spoken
        self._spoken = Words()  # its words so far

    def announce(self, frame: AggregatedTextFrame) -> None:
        """Text-to-speech begins to synthesise this text."""
        self._announced[frame.id] = frame

    def word(self, frame: TTSTextFrame) -> bool:
        """A word has been spoken (a whole sentence, from a service without word times).

        Returns whether it counts: not if its text has been interrupted.
        """
        if frame.segment_id in self._cut:
            return False
        self._interruptible = frame.interruptible
        if frame.segment_id != self._segment or frame.segment_id is None:
            self.end()
            self._segment = frame.segment_id
            announced = self._announced.pop(frame.segment_id, frame) if frame.segment_id else frame
            self._coming = deque(sentences_of(announced.text))
        elif _letters(self._spoken.text) >= _letters(self._sentence):
            self.end()
        if not self._spoken.text:
            self._sentence = self._coming.popleft() if self._coming else frame.text
            while self._coming and _letters(self._sentence) < _letters(frame.text):  # no word times
                self._sentence = f"{self._sentence} {self._coming.popleft()}"
            self._emit(Saying(self._sentence))
        self._spoken.add(frame)
        return True

    def end(self) -> None:
        """The sentence has ended, or was cut off: emit the part that was spoken."""
        if said := self._spoken.text:
            self._emit(Said(said))
        self._spoken.clear()

    def interrupt(self) -> None:
        """Interrupt the sentence being spoken and the announced texts, except those that may not be."""
        cut = {id for id, announced in self._announced.items() if announced.interruptible}
        for id in cut:
            del self._announced[id]
        self._cut |= cut
        if self._interruptible:
            self.end()
            self._coming.clear()
            if self._segment is not None:
                self._cut.add(self._segment)


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))
