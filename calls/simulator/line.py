"""What a telephone line does to a voice: band limits, codecs, noise, wrong levels.

Every function takes s16le mono 16 kHz audio and returns the same length of it. `LINES` names the lines, for
tests, benchmarks and `simulatecall --line`.
"""

import io
from collections.abc import Callable
from typing import Literal

import numpy as np
import soundfile  # type: ignore[import-untyped]  # it has no type information
import soxr
from numpy.typing import NDArray

from calls.simulator.wire import SAMPLE_RATE

TELEPHONE_RATE = 8000  # Hz
TELEPHONE_BAND = (300.0, 3400.0)  # Hz: ITU-T G.712
EDGE_HZ = 100.0  # width of the band's soft edges: hard ones would ring
FULL_SCALE = 32768
LOUD_DB = -40.0  # relative to the loudest 20 ms; only what is louder counts when the speech level is measured
LEVEL_SAMPLES = SAMPLE_RATE // 50

Samples = NDArray[np.float32]
Codec = Literal["ULAW", "ALAW", "GSM610"]
Line = Callable[[bytes], bytes]


def clean(pcm: bytes) -> bytes:
    """`pcm` unchanged."""
    return pcm


def telephone(pcm: bytes, codec: Codec = "ULAW") -> bytes:
    """An ordinary telephone: 300 to 3400 Hz at 8 kHz, through G.711 µ-law or A-law, or GSM 06.10."""
    narrow = soxr.resample(_band(_samples(pcm), *TELEPHONE_BAND), SAMPLE_RATE, TELEPHONE_RATE)
    coded = io.BytesIO()
    soundfile.write(coded, narrow, TELEPHONE_RATE, format="WAV", subtype=codec)
    coded.seek(0)
    decoded, _ = soundfile.read(coded, dtype="float32")
    wide = soxr.resample(decoded, TELEPHONE_RATE, SAMPLE_RATE)[: len(pcm) // 2]
    return _pcm(np.pad(wide, (0, len(pcm) // 2 - len(wide))))


def gsm(pcm: bytes) -> bytes:
    """A mobile telephone: GSM 06.10 full rate."""
    return telephone(pcm, "GSM610")


def noisy(pcm: bytes, below_db: float, seed: int = 1) -> bytes:
    """Add white noise that is `below_db` quieter than the speech, also in the pauses."""
    samples = _samples(pcm)
    noise = np.random.default_rng(seed).standard_normal(len(samples)).astype(np.float32)
    return _pcm(samples + noise * _level(samples) * np.float32(10 ** (-below_db / 20)))


def gain(pcm: bytes, db: float) -> bytes:
    """Make `pcm` louder by `db` (quieter if negative); samples out of range are clipped."""
    return _pcm(_samples(pcm) * np.float32(10 ** (db / 20)))


def clipped(pcm: bytes, db: float = 20.0) -> bytes:
    """Clip the samples at `db` below their peak, then amplify them to half of that peak."""
    samples = _samples(pcm)
    peak = float(np.abs(samples).max(initial=1 / FULL_SCALE))
    limit = peak * 10 ** (-db / 20)
    return _pcm(np.clip(samples, -limit, limit) * np.float32(peak / limit / 2))


LINES: dict[str, Line] = {
    "clean": clean,
    "telephone": telephone,
    "gsm": gsm,
    "noise-20": lambda pcm: noisy(telephone(pcm), 20),
    "noise-10": lambda pcm: noisy(telephone(pcm), 10),
    "quiet": lambda pcm: gain(telephone(pcm), -30),
    "clipped": lambda pcm: telephone(clipped(pcm)),
}
"""By name: as spoken; µ-law; GSM; µ-law with noise 20 and 10 dB below; 30 dB too quiet; overdriven."""


def _samples(pcm: bytes) -> Samples:
    return np.frombuffer(pcm, "<i2").astype(np.float32) / np.float32(FULL_SCALE)


def _pcm(samples: Samples) -> bytes:
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype("<i2").tobytes()


def _band(samples: Samples, low: float, high: float) -> Samples:
    """Keep the frequencies from `low` to `high`, in Hz, and fade out those within EDGE_HZ around them."""
    if not len(samples):
        return samples
    spectrum = np.fft.rfft(samples)
    hz = np.fft.rfftfreq(len(samples), 1 / SAMPLE_RATE)
    spectrum *= np.interp(hz, (low - EDGE_HZ, low, high, high + EDGE_HZ), (0.0, 1.0, 1.0, 0.0))
    return np.fft.irfft(spectrum, len(samples)).astype(np.float32)


def _level(samples: Samples) -> np.float32:
    """Root mean square of the loud parts, without the pauses."""
    steps = samples[: len(samples) // LEVEL_SAMPLES * LEVEL_SAMPLES].reshape(-1, LEVEL_SAMPLES)
    if not len(steps):
        return np.float32(0)
    energy = (steps**2).mean(axis=1)
    return np.float32(np.sqrt(energy[energy >= energy.max() * 10 ** (LOUD_DB / 10)].mean()))
