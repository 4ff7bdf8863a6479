"""Whisper's log-mel features of speech, the input of the smart turn model. Pure.

They equal those of Hugging Face's WhisperFeatureExtractor for 8 s at 16 kHz with `do_normalize`: 80 bands of
Slaney's mel scale, from power spectra of 25 ms under a Hann window, every 10 ms.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from calls.audio.format import SAMPLE_RATE

BANDS, STEPS = 80, 800
STEP = 160  # samples, 10 ms
SPECTRUM = 400  # samples in one power spectrum, 25 ms
SAMPLES = STEPS * STEP  # 8 s
LEAST_POWER = 1e-10  # replaces smaller powers before the logarithm
LEAST_VARIANCE = 1e-7  # is added to the audio's variance: that of silence is 0
RANGE = 8.0  # powers of ten below the loudest value; smaller values are raised to that
# Slaney's mel scale: linear below 1 kHz, which is 15 mel, then 27 mel for each factor of 6.4.
LINEAR_HZ, LINEAR_MEL, MEL_PER_LOG = 1000.0, 15.0, 27.0 / np.log(6.4)

Floats = NDArray[np.float64]


def log_mel(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """The features of the last 8 s of `audio` (16 kHz, -1 to 1), of shape (BANDS, STEPS), about -1 to 1.

    Shorter audio is padded with silence at its start. All steps of that silence have the same features, so
    they are computed for one step only.
    """
    silent = max(0, SAMPLES - len(audio))
    samples = np.pad(audio[-SAMPLES:], (silent, 0))
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + LEAST_VARIANCE)
    same = max(0, (silent - SPECTRUM // 2) // STEP)  # steps whose spectrum is of silence only
    power = power_spectra(samples[same * STEP :])
    bands = np.log10(np.maximum(FILTERS @ power, LEAST_POWER))[:, :-1]
    bands = np.pad(np.maximum(bands, bands.max() - RANGE), ((0, 0), (same, 0)), mode="edge")
    return ((bands + 4.0) / 4.0).astype(np.float32)


def power_spectra(samples: NDArray[np.float32]) -> Floats:
    """Power, of shape (SPECTRUM / 2 + 1 frequencies, steps). The spectrum of each step is centred on it."""
    padded = np.pad(samples.astype(np.float64), SPECTRUM // 2, mode="reflect")
    spectra = np.fft.rfft(sliding_window_view(padded, SPECTRUM)[::STEP] * HANN)
    return (np.abs(spectra) ** 2).T


def _mel(hz: float) -> float:
    if hz < LINEAR_HZ:
        return LINEAR_MEL * hz / LINEAR_HZ
    return float(LINEAR_MEL + MEL_PER_LOG * np.log(hz / LINEAR_HZ))


def _hz(mel: Floats) -> Floats:
    linear = mel * LINEAR_HZ / LINEAR_MEL
    return np.where(mel < LINEAR_MEL, linear, LINEAR_HZ * np.exp((mel - LINEAR_MEL) / MEL_PER_LOG))


def mel_filters() -> Floats:
    """Each frequency's weight in each band: BANDS triangles of equal area, from 0 Hz to half the rate."""
    edges = _hz(np.linspace(0.0, _mel(SAMPLE_RATE / 2), BANDS + 2))[
        :, np.newaxis
    ]  # the middles and both ends
    hz = np.linspace(0.0, SAMPLE_RATE / 2, SPECTRUM // 2 + 1)
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (edges[2:] - edges[:-2])


HANN: Floats = np.hanning(SPECTRUM + 1)[:-1]  # periodic
FILTERS: Floats = mel_filters()
