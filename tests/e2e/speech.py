"""What callers say, spoken with the embedded voice; and what was said, recognised back."""

import re
from functools import cache

import numpy as np
import soxr
from hibari import Hibari
from pocketsphinx import Decoder

RATE = 16_000


@cache
def _voice():
    return Hibari()


@cache
def say(text):
    """s16le mono 16 kHz speech, a little silence around it."""
    quiet = np.zeros(RATE // 5, np.float32)
    speech = soxr.resample(_voice()(text, seed=1), 24_000, RATE)
    samples = np.concatenate([quiet, speech, quiet])
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def recognise(pcm):
    """The words in s16le 16 kHz audio, by the embedded recogniser, utterance by utterance."""
    decoder = Decoder(samprate=RATE, loglevel="FATAL")
    words = []
    for utterance in _utterances(pcm):
        decoder.start_utt()
        decoder.process_raw(utterance, full_utt=True)
        decoder.end_utt()
        if hypothesis := decoder.hyp():
            words.append(hypothesis.hypstr)
    return " ".join(words)


def _utterances(pcm, pause_s=0.4):
    """Stretches of sound between pauses, with some of the silence around them."""
    samples = np.frombuffer(pcm, "<i2")
    loud = np.flatnonzero(np.abs(samples.astype(np.int32)) > 300)
    if not loud.size:
        return
    pad = np.zeros(RATE // 3, "<i2").tobytes()
    gaps = np.flatnonzero(np.diff(loud) > pause_s * RATE)
    starts = [loud[0], *loud[gaps + 1]]
    ends = [*loud[gaps], loud[-1]]
    for start, end in zip(starts, ends, strict=True):
        yield pad + samples[max(0, start - 1000) : end + 1000].tobytes() + pad


def words_of(text):
    return re.findall(r"[a-z']+", text.lower())


def word_error_rate(reference, heard):
    """Edits (words replaced, dropped, added) per word of the reference."""
    expected, got = words_of(reference), words_of(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(expected, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            cost = min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], cost
    return row[-1] / len(expected)
