"""What callers say, in several voices over a telephone; and what was said, recognised back."""

from functools import cache

import numpy as np

from calls.providers.local.moonshine import Moonshine, tiny_folder
from calls.simulator.line import telephone
from calls.simulator.voices import EMBEDDED, speak
from calls.simulator.words import words_of

RATE = 16_000
LONGEST_S = 12


@cache
def say(text, voice=EMBEDDED):
    """s16le mono 16 kHz speech of a telephone, a little silence around it."""
    quiet = bytes(RATE // 5 * 2)
    return quiet + telephone(speak(text, voice)) + quiet


@cache
def _model():
    return Moonshine(tiny_folder())


def recognise(pcm):
    """The words in s16le 16 kHz audio, in lower case, by the embedded recogniser, utterance by utterance."""
    return " ".join(words_of(" ".join(_model().transcribe(utterance).text for utterance in _utterances(pcm))))


def _utterances(pcm, pause_s=0.4):
    """Stretches of sound between pauses, with some of the silence around them."""
    samples = np.frombuffer(pcm, "<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 300)
    if not loud.size:
        return
    pad = bytes(RATE // 3 * 2)
    gaps = np.flatnonzero(np.diff(loud) > pause_s * RATE)
    starts = [loud[0], *loud[gaps + 1]]
    ends = [*loud[gaps], loud[-1]]
    for start, end in zip(starts, ends, strict=True):
        for at in range(max(0, start - 1000), end + 1000, LONGEST_S * RATE):
            yield pad + samples[at : min(end + 1000, at + LONGEST_S * RATE)].tobytes() + pad
