"""The callers' speech: scripted conversations, synthesised and encoded once and sent by every call.

A conversation is a loop: a question and the time of its whole reply, another question, an interruption in the
middle of its reply, and the time of the whole reply to that. A call starts at any place of the loop where the
caller is silent. Between the words there is the faint noise of a telephone line, not digital silence.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from numpy.typing import NDArray

from benchmarks.figures import FIXED_TURN_S, Utterance
from benchmarks.websocket import MASK, frame_header

SAMPLE_RATE = 16_000
FRAME_S = 0.01
CACHE = Path(__file__).resolve().parent.parent / "data" / "benchmarks"

# Smart turn takes each for finished, and none has a pause that ends speech.
SENTENCES = (
    "I would like to book a table for four people tonight.",
    "Can you tell me when you open on Sunday morning?",
    "What is the price of a room with breakfast?",
    "Please send the invoice to my new address.",
    "Is there a train to the airport before seven?",
    "I need to change the date of my appointment.",
)
LISTEN_S = FIXED_TURN_S + 6.7  # the reply, and a moment
INTERRUPT_S = FIXED_TURN_S + 1.7  # into the reply
NOISE = 16.0  # standard deviation in units of s16: −66 dB of full scale
AUDIBLE = 0.02  # of the loudest sample; speech truly begins and ends where it is as loud as this
LOUDEST = 12_000


@dataclass(frozen=True)
class Script:
    """A conversation as a loop: `frames` has WebSocket frames of `frame_s` seconds, of `size` bytes each.

    `said` has the utterances, in seconds from the loop's beginning.
    """

    frames: bytes
    size: int
    count: int
    said: tuple[Utterance, ...]
    frame_s: float = FRAME_S

    @property
    def seconds(self) -> float:
        """The loop's length."""
        return self.count * self.frame_s

    def entry(self, dice: random.Random) -> int:
        """A frame to start at: a random one, moved on to where the caller is silent."""
        at = dice.randrange(self.count)
        for one in self.said:
            if one.onset - 0.5 <= at * self.frame_s <= one.end + 0.5:
                at = round((one.end + 0.5) / self.frame_s)
        return at % self.count

    def entry_before(self, utterance: int, seconds: float) -> int:
        """The frame to start at so that this utterance begins `seconds` later."""
        return round((self.said[utterance].onset - seconds) / self.frame_s) % self.count

    def said_from(self, entry: int, origin: float, until: float) -> list[Utterance]:
        """The utterances of a call that sends frame `entry` from `origin` on, up to `until`."""
        found: list[Utterance] = []
        base = origin - entry * self.frame_s
        while base < until:
            found += [Utterance(base + u.onset, base + u.end) for u in self.said]
            base += self.seconds
        return [u for u in found if u.onset >= origin and u.end <= until]


def scripts(rate: int = SAMPLE_RATE, frame_s: float = FRAME_S) -> list[Script]:
    """Two conversations at `rate` Hz; the speech is made at first use and kept in the data folder."""
    said = spoken()
    return [_script(said[:3], 1, rate, frame_s), _script(said[3:], 2, rate, frame_s)]


def _script(spoken: list[NDArray[np.int16]], seed: int, rate: int, frame_s: float) -> Script:
    samples_a_frame = round(rate * frame_s)
    pauses = (LISTEN_S, INTERRUPT_S, LISTEN_S)
    parts: list[NDArray[np.float64]] = []
    said = []
    at = 0
    for speech, pause in zip(spoken, pauses, strict=True):
        said.append(Utterance(at / SAMPLE_RATE, (at + len(speech)) / SAMPLE_RATE))
        parts += [speech.astype(np.float64), np.zeros(round(pause * SAMPLE_RATE))]
        at += sum(len(part) for part in parts[-2:])
    audio = np.concatenate(parts)
    if rate != SAMPLE_RATE:
        audio = soxr.resample(audio, SAMPLE_RATE, rate)
    audio = audio[: len(audio) // samples_a_frame * samples_a_frame]
    audio += np.random.default_rng(seed).normal(0, NOISE, len(audio))
    samples = np.clip(audio, -32_768, 32_767).astype("<i2")
    pcm = samples.view(np.uint8).reshape(-1, samples_a_frame * 2)
    mask = np.resize(np.frombuffer(MASK, np.uint8), samples_a_frame * 2)
    header = np.frombuffer(frame_header(2, samples_a_frame * 2), np.uint8)
    framed = np.hstack([np.tile(header, (len(pcm), 1)), pcm ^ mask])
    return Script(framed.tobytes(), framed.shape[1], len(pcm), tuple(said), frame_s)


def spoken() -> list[NDArray[np.int16]]:
    """The sentences, cut to where they are audible: made at first use and kept in the data folder."""
    cache = CACHE / "speech-1.npz"
    if not cache.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        made = {str(number): _speak(text) for number, text in enumerate(SENTENCES)}
        unfinished = cache.with_suffix(f".{os.getpid()}.npz")
        np.savez(unfinished, **made)  # type: ignore[arg-type]  # arrays by name, as documented
        unfinished.replace(cache)
    with np.load(cache) as kept:
        return [kept[str(number)] for number in range(len(SENTENCES))]


def _speak(text: str) -> NDArray[np.int16]:
    """The embedded voice's speech of `text`, cut to where it is audible."""
    from calls.providers.local import voice  # loads a model: only when the cache is empty

    pcm = np.frombuffer(voice.speak(text, 1.0, SAMPLE_RATE).pcm, "<i2").astype(np.float64)
    pcm *= LOUDEST / np.abs(pcm).max()
    audible = np.flatnonzero(np.abs(pcm) > AUDIBLE * LOUDEST)
    return pcm[audible[0] : audible[-1] + 1].astype(np.int16)
