"""Resamples a stream of voice as it arrives."""

from math import ceil, gcd, pi

import numpy as np

# What passes and what is taken away, in parts of the lower rate: with 8 kHz, flat to 3.4 kHz as a telephone
# is, and -60 dB from 4.6. The steeper the filter, the longer its delay.
PASSED, STOPPED = 0.425, 0.575
ATTENUATION_DB = 60.0


class Resampler:
    """Changes the rate of one stream of s16le mono audio, 1.5 ms late.

    A polyphase filter of our own: soxr's streams work in blocks. Given 20 ms of 8 kHz at a time, even its
    quality LQ holds back 33 ms on average and 61 at most; it takes 5 µs for them, this 23.

    Args:
        rate: sample rate of the input, in Hz.
        to: sample rate of the output, in Hz.
    """

    def __init__(self, rate: int, to: int) -> None:
        self._same = rate == to
        divisor = gcd(rate, to)
        self._up, self._down = to // divisor, rate // divisor
        self._phases = _filter(self._up, rate * self._up, min(rate, to))  # shape (up, taps)
        self._waiting = np.zeros(self._phases.shape[1] - 1, np.float32)  # what the next samples still need
        self._next = 0  # of the next output sample, in steps of 1 / up from the first window

    def __call__(self, pcm: bytes) -> bytes:
        """Resample a piece of any length; return the output that is ready, which may be empty."""
        if self._same or not pcm:
            return pcm
        samples = np.concatenate((self._waiting, np.frombuffer(pcm, np.int16)), dtype=np.float32)
        taps = self._phases.shape[1]
        if len(samples) < taps:
            self._waiting = samples
            return b""
        # Every window of so many samples, as numpy's sliding_window_view, which takes 10 µs to be made.
        windows = np.ndarray((len(samples) - taps + 1, taps), np.float32, samples, strides=(4, 4))
        ready = max(0, ceil((len(windows) * self._up - self._next) / self._down))
        voice = np.empty(ready, np.float32)
        for first in range(min(self._up, ready)):  # each phase of the filter serves every up-th sample
            window, phase = divmod(self._next + first * self._down, self._up)
            voice[first :: self._up] = windows[window :: self._down] @ self._phases[phase]
        self._next += ready * self._down - len(windows) * self._up
        self._waiting = samples[len(windows) :].copy()
        return voice.round(out=voice).clip(-32768, 32767, out=voice).astype(np.int16).tobytes()


def _filter(up: int, rate: int, lower: int) -> np.ndarray:
    """A low-pass filter at `rate`, split into its phases, each reversed: shape (up, taps).

    A windowed sinc; the window's length and shape by Kaiser's formulas (Oppenheim and Schafer, Discrete-Time
    Signal Processing, section 7.5.3).
    """
    width = 2 * pi * (STOPPED - PASSED) * lower / rate  # of the transition, in radians a sample
    taps = ceil(((ATTENUATION_DB - 8) / (2.285 * width) + 1) / up)
    middle = (taps * up - 1) / 2
    cutoff = (PASSED + STOPPED) * lower / rate  # in parts of half the rate
    beta = 0.1102 * (ATTENUATION_DB - 8.7)
    sinc = cutoff * np.sinc(cutoff * (np.arange(taps * up) - middle)) * np.kaiser(taps * up, beta)
    phases = (sinc * up / sinc.sum()).reshape(taps, up).T[:, ::-1]
    return np.ascontiguousarray(phases, np.float32)
