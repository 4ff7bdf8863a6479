"""The voice of the local servers: real speech, made with the embedded voice."""

from functools import lru_cache

import numpy as np
import soxr
from hibari import Hibari


@lru_cache
def _model() -> Hibari:
    return Hibari()


@lru_cache
def speak(text: str, sample_rate: int) -> bytes:
    """`text` spoken, as s16le mono at `sample_rate` Hz; the same bytes every time."""
    model = _model()
    samples = soxr.resample(model(text, seed=1), model.sample_rate, sample_rate)
    return (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
