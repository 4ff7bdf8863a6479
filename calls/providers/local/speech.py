"""One stretch of a caller's speech, and how far the recogniser has got with it."""

import numpy as np

from calls.providers.local import phantoms
from calls.providers.local.moonshine import SAMPLE_RATE, Transcript

BYTES_PER_SECOND = SAMPLE_RATE * 2
PARTIAL_BYTES = int(0.5 * BYTES_PER_SECOND)  # of new speech, before its words are shown
# Long speech is transcribed in pieces, cut where it is quietest: the encoder's work grows with the square.
PIECE_BYTES = 12 * BYTES_PER_SECOND
EARLIEST_CUT = 6 * SAMPLE_RATE
QUIET_SAMPLES = SAMPLE_RATE // 10  # as long a quiet moment is looked for
# Silence after what was transcribed in a pause; more may be speech.
PAUSE_BYTES = int(0.15 * BYTES_PER_SECOND)


class Speech:
    """What is being said, or was, and has not been answered.

    Its audio comes in at one end; at the other, pieces of it are settled: their words are known for good.
    In between are glances at the audio that is left.
    """

    def __init__(self, pre_roll: bytes) -> None:
        self.audio = bytearray(pre_roll)  # that is not settled
        self.ended = False
        self.paused = False  # a pause has begun whose words have not been looked at
        self.draft: tuple[int, ...] = ()  # the tokens of the last glance
        self._settled: list[str] = []  # the words of the pieces before
        self._glimpsed = ""  # the words of the last glance that had any
        self._looked_at = len(self.audio)  # bytes there were at the last glance
        self._answer: tuple[int, Transcript] | None = None  # of so many bytes, at the beginning of a pause

    @property
    def is_due(self) -> bool:
        """Whether it is time to look for words."""
        return self.paused or len(self.audio) - self._looked_at >= PARTIAL_BYTES

    @property
    def is_long(self) -> bool:
        """Whether its first piece is to be settled."""
        return len(self.audio) > PIECE_BYTES

    @property
    def text(self) -> str:
        """All words so far."""
        return " ".join(filter(None, [*self._settled, self._glimpsed]))

    @property
    def answer(self) -> Transcript | None:
        """The transcript of the audio that is left, if a glance was at all of it but silence."""
        if self._answer and len(self.audio) - self._answer[0] <= PAUSE_BYTES:
            return self._answer[1]
        return None

    def look(self) -> tuple[bytes, bool]:
        """The audio for a glance, and whether the caller has paused."""
        paused, self.paused = self.paused, False
        self._looked_at = len(self.audio)
        return bytes(self.audio), paused

    def glimpse(self, transcript: Transcript, *, paused: bool) -> bool:
        """Take what a glance came to; whether there are other words than before."""
        before = self.text
        self.draft = transcript.tokens
        if paused:
            self._answer = (self._looked_at, transcript)
        self._glimpsed = phantoms.spoken(transcript) or self._glimpsed
        return bool(self.text) and self.text != before

    def piece(self) -> bytes:
        """What is to be settled next: all that is left, or, of long speech, what is transcribed at once."""
        return bytes(self.audio[: quietest(bytes(self.audio[:PIECE_BYTES]))] if self.is_long else self.audio)

    def settle(self, piece: bytes, transcript: Transcript | None) -> None:
        """Take a piece's words: those of its transcript, or, if it has none, those that glances found."""
        words = phantoms.spoken(transcript) if transcript else ""
        taken = len(piece)
        if not words and self._glimpsed:
            words, taken = self._glimpsed, max(taken, self._looked_at)
        del self.audio[:taken]
        self._settled.append(words)
        self._glimpsed, self._looked_at, self.draft, self._answer = "", 0, (), None


def quietest(pcm: bytes) -> int:
    """Where to cut s16le audio, in bytes: in the quietest tenth of a second after the first six."""
    samples = np.frombuffer(pcm, "<i2")[EARLIEST_CUT:].astype(np.float32)
    steps = samples[: len(samples) // QUIET_SAMPLES * QUIET_SAMPLES].reshape(-1, QUIET_SAMPLES)
    quiet = int((steps**2).sum(axis=1).argmin())
    return 2 * (EARLIEST_CUT + quiet * QUIET_SAMPLES + QUIET_SAMPLES // 2)
