"""One stretch of a caller's speech: its audio, and the words recognised so far."""

import numpy as np

from calls.providers.local import phantoms
from calls.providers.local.moonshine import SAMPLE_RATE, Transcript

BYTES_PER_SECOND = SAMPLE_RATE * 2
PARTIAL_BYTES = int(0.5 * BYTES_PER_SECOND)  # of new audio, after which a partial transcript is due
# Long speech is cut into pieces where it is quietest: the encoder's time grows with the square of the length.
PIECE_BYTES = 12 * BYTES_PER_SECOND
EARLIEST_CUT = 6 * SAMPLE_RATE
QUIET_SAMPLES = SAMPLE_RATE // 10  # length of the quietest moment that is looked for
# After a transcript that was made in a pause, up to this much more audio is silence; more may be speech.
PAUSE_BYTES = int(0.15 * BYTES_PER_SECOND)


class Speech:
    """A speech that is going on, or that has ended and whose final transcript was not pushed yet.

    Audio is appended at its end. Pieces at its beginning are settled: their words are final. The audio in
    between is transcribed again and again for partial transcripts; each of these is called a glance.
    """

    def __init__(self, pre_roll: bytes) -> None:
        self.audio = bytearray(pre_roll)  # the part that is not settled
        self.ended = False
        self.paused = False  # whether a pause has begun since the last glance
        self.draft: tuple[int, ...] = ()  # the tokens of the last glance
        self._settled: list[str] = []  # the words of the settled pieces
        self._glimpsed = ""  # the words of the last glance that had any
        self._looked_at = len(self.audio)  # the length of the audio at the last glance
        self._answer: tuple[int, Transcript] | None = None  # (length, transcript) of a glance in a pause

    @property
    def is_due(self) -> bool:
        """Whether a glance is due."""
        return self.paused or len(self.audio) - self._looked_at >= PARTIAL_BYTES

    @property
    def is_long(self) -> bool:
        """Whether it is so long that its first piece has to be settled."""
        return len(self.audio) > PIECE_BYTES

    @property
    def text(self) -> str:
        """All words so far."""
        return " ".join(filter(None, [*self._settled, self._glimpsed]))

    @property
    def answer(self) -> Transcript | None:
        """The transcript of the last glance, if only silence has come since; else None."""
        if self._answer and len(self.audio) - self._answer[0] <= PAUSE_BYTES:
            return self._answer[1]
        return None

    def look(self) -> tuple[bytes, bool]:
        """The audio for a glance, and whether the caller has paused."""
        paused, self.paused = self.paused, False
        self._looked_at = len(self.audio)
        return bytes(self.audio), paused

    def glimpse(self, transcript: Transcript, *, paused: bool) -> bool:
        """Take the transcript of a glance; return whether its words differ from those before."""
        before = self.text
        self.draft = transcript.tokens
        if paused:
            self._answer = (self._looked_at, transcript)
        self._glimpsed = phantoms.spoken(transcript) or self._glimpsed
        return bool(self.text) and self.text != before

    def piece(self) -> bytes:
        """The audio to settle next: all that is left, or the first piece of a long speech."""
        return bytes(self.audio[: quietest(bytes(self.audio[:PIECE_BYTES]))] if self.is_long else self.audio)

    def settle(self, piece: bytes, transcript: Transcript | None) -> None:
        """Settle a piece with the words of its transcript; if it has none, with those of the last glance."""
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
