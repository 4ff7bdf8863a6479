"""WAV files in and out, and where in a recording someone speaks."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import soundfile  # type: ignore[import-untyped]  # it has no type information
import soxr
from numpy.typing import NDArray

from calls.simulator.wire import SAMPLE_RATE

LEVEL_STEP_S = 0.01
# A moment counts as speech if it is at most this far below the loudest one, and above SPEECH_FLOOR.
SPEECH_RANGE_DB = 35.0
SPEECH_FLOOR = 50.0  # root mean square in 16-bit steps, -56 dBFS
# Silence up to this long is a pause within the same speech.
PAUSE_S = 0.6


def read_wav(path: Path) -> bytes:
    """The recording at `path`, of any rate and width and with any channels, as s16le mono at 16 kHz.

    Raises `ValueError` if it is not a sound file or has no samples, `OSError` if it can't be opened.
    """
    with path.open("rb") as file:
        try:
            samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{path} is not a sound file: {error.error_string}") from error
    if not len(samples):
        raise ValueError(f"{path} has no sound in it")
    return pcm_of(np.ascontiguousarray(samples.mean(axis=1)), rate)


def pcm_of(samples: NDArray[np.floating[Any]], rate: int) -> bytes:
    """Mono samples from -1 to 1 at `rate` Hz as s16le at 16 kHz; louder samples are clipped."""
    if rate != SAMPLE_RATE:
        samples = soxr.resample(samples, rate, SAMPLE_RATE, quality="VHQ")
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def resampled(pcm: bytes, rate: int) -> bytes:
    """s16le mono `pcm` at `rate` Hz as s16le at 16 kHz."""
    return pcm_of(np.frombuffer(pcm, "<i2").astype(np.float32) / 32768, rate)


class FramesAt:
    """Resamples frames of s16le mono from 16 kHz to `rate` Hz, as one stream."""

    def __init__(self, rate: int) -> None:
        self._stream = soxr.ResampleStream(SAMPLE_RATE, rate, 1, "int16", "HQ")
        self._rate = rate
        self._left = bytearray()

    def __call__(self, frame: bytes) -> bytes:
        """Take a frame and return one of the same duration; silence until enough is resampled."""
        self._left += self._stream.resample_chunk(np.frombuffer(frame, "<i2")).tobytes()
        size = len(frame) * self._rate // SAMPLE_RATE // 2 * 2
        if len(self._left) < size:
            return bytes(size)
        out = bytes(self._left[:size])
        del self._left[:size]
        return out


def write_wav(path: Path, pcm: bytes) -> None:
    """Write s16le mono 16 kHz `pcm` to `path` as a WAV file. Raises `OSError`."""
    with path.open("wb") as file, wave.open(file, "wb") as wav:
        wav.setnchannels(1)
        wav.setsampwidth(2)
        wav.setframerate(SAMPLE_RATE)
        wav.writeframes(pcm)


def speech_spans(pcm: bytes) -> list[tuple[float, float]]:
    """The (start, end) of each speech in s16le mono 16 kHz `pcm`, in s, found by its level.

    Silence of at most `PAUSE_S` belongs to the speech around it.
    """
    step = int(SAMPLE_RATE * LEVEL_STEP_S)
    samples = np.frombuffer(pcm, "<i2").astype(np.float32)
    samples = np.pad(samples, (0, -len(samples) % step))
    if not len(samples):
        return []
    levels = np.sqrt((samples.reshape(-1, step) ** 2).mean(axis=1))
    threshold = max(SPEECH_FLOOR, float(levels.max()) * 10 ** (-SPEECH_RANGE_DB / 20))
    loud = np.flatnonzero(levels >= threshold)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) * LEVEL_STEP_S > PAUSE_S)
    starts = loud[np.concatenate(([0], breaks + 1))]
    ends = loud[np.concatenate((breaks, [len(loud) - 1]))] + 1
    return [(float(s) * LEVEL_STEP_S, float(e) * LEVEL_STEP_S) for s, e in zip(starts, ends, strict=True)]
