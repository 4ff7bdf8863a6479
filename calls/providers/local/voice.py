"""The embedded voice: makes 16-bit PCM and the times of the words of a text. Blocking; for use in threads."""

import re
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import soxr

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The longest text synthesized at once: about 9 s of speech, which take a tenth of a second.
MAX_CHARACTERS = 150
# The model puts 0.3 to 0.5 s of near silence around speech, which would only delay the reply.
QUIET = 0.004
LEAD_SECONDS = 0.04
PAUSE_SECONDS = 0.25
CLAUSE_PAUSE_SECONDS = 0.1
# A pause at a comma lasts about as long as three phonemes.
PAUSE_WEIGHT = 3.0
_CLAUSE_END = re.compile(r"[,;:—](?=\s)")
_PAUSES = re.compile(r"[,;:.!?…—]")
_SILENT_MARKS = re.compile(r"[ˈˌ\s]")

_loading = threading.Lock()


@dataclass(frozen=True)
class Speech:
    """Spoken text: s16le mono PCM, its length in seconds, and (word, second it begins) in order."""

    pcm: bytes
    seconds: float
    words: list[tuple[str, float]]


def pieces(text: str) -> list[str]:
    """Cut text into sentences, and long ones at clauses or words, each at most 150 characters."""
    found = []
    for sentence in _model().split_sentences(text):
        rest = sentence.strip()
        while len(rest) > MAX_CHARACTERS:
            cut = _cut(rest)
            found.append(rest[:cut].strip())
            rest = rest[cut:].strip()
        found.append(rest)
    return [piece for piece in found if piece]


def speak(piece: str, speed: float, sample_rate: int) -> Speech:
    """Synthesize one piece of text, each time the same. Text without sound (an emoji) is a short silence.

    `speed` 1 is the voice's own pace, 0.5 half of it; `sample_rate` in Hz.
    """
    model = _model()
    audio = np.concatenate([np.zeros(0, np.float32)] + [
        model.from_phonemes(phonemes, speed, seed=0) for phonemes in model.phonemize(piece)
    ])  # fmt: skip
    audio, begin, end = _trim(audio, model.sample_rate, ends_sentence=piece[-1] in ".!?…\"”'’)")
    words = _word_times(piece, begin, end)
    resampled = soxr.resample(audio, model.sample_rate, sample_rate)
    pcm = (np.clip(resampled, -1.0, 1.0) * 32767).astype("<i2")
    return Speech(pcm.tobytes(), len(pcm) / sample_rate, words)


def load() -> None:
    """Load the model and speak once: the first synthesis takes 0.7 s, later ones 20 ms."""
    speak("Hello, how can I help you today?", 1.0, 16000)


def _model() -> Any:
    with _loading:
        return _loaded_model()


@cache
def _loaded_model() -> Any:
    # Loaded at first use, as the library takes half a second to import.
    from hibari import Hibari

    model = Hibari(threads=1)
    model.phonemize("Ready.")
    return model


def _cut(text: str) -> int:
    """Where to cut a long text: after a clause, else between words, else anywhere."""
    head = text[:MAX_CHARACTERS]
    clauses = [match.end() for match in _CLAUSE_END.finditer(head)]
    if clauses and clauses[-1] > MAX_CHARACTERS // 4:
        return clauses[-1]
    return head.rfind(" ") + 1 or MAX_CHARACTERS


def _trim(
    audio: "NDArray[np.float32]", rate: int, *, ends_sentence: bool
) -> tuple["NDArray[np.float32]", float, float]:
    """Shorten the silence at both ends; return the audio and where, in seconds, speech begins and ends."""
    pause = PAUSE_SECONDS if ends_sentence else CLAUSE_PAUSE_SECONDS
    loud = np.flatnonzero(np.abs(audio) > QUIET)
    if not loud.size:
        return np.zeros(int(pause * rate), np.float32), 0.0, pause
    first = max(0, int(loud[0]) - int(LEAD_SECONDS * rate))
    last = int(loud[-1]) + 1
    trimmed = audio[first : last + int(pause * rate)]
    return trimmed, (int(loud[0]) - first) / rate, (last - first) / rate


def _word_times(piece: str, begin: float, end: float) -> list[tuple[str, float]]:
    """Estimate when each word begins by its share of the phonemes of the piece."""
    words = piece.split()
    g2p = _model().g2p
    weights = [
        1 + len(_SILENT_MARKS.sub("", g2p(word))) + PAUSE_WEIGHT * bool(_PAUSES.search(word[-1]))
        for word in words
    ]
    # The last word's pause is not part of the speech.
    weights[-1] -= PAUSE_WEIGHT * bool(_PAUSES.search(words[-1][-1]))
    starts = np.cumsum([0.0, *weights[:-1]]) / sum(weights)
    return [(word, begin + float(s) * (end - begin)) for word, s in zip(words, starts, strict=True)]
