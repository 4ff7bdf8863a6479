"""Whisper's features are those that Pipecat computes, with the silence before speech computed once."""

import numpy as np
import pytest
from pipecat.audio.turn.smart_turn import _whisper_features as theirs

from calls.pipeline import features
from calls.pipeline.features import BANDS, SAMPLES, STEPS, log_mel


def speechlike(samples, seed=1):
    """Noise that swells and fades, from -1 to 1."""
    dice = np.random.default_rng(seed)
    swell = np.interp(np.arange(samples), np.linspace(0, samples, 20), dice.random(20))
    return (dice.standard_normal(samples) * swell * 0.1).astype(np.float32)


def test_the_filters_and_the_window_are_pipecats():
    np.testing.assert_allclose(features.FILTERS, theirs._MEL_FILTERS.T, atol=1e-12)
    np.testing.assert_array_equal(features.HANN, theirs._HANN_WINDOW)


@pytest.mark.parametrize(
    "samples", [1, 159, 160, 4_000, 51_237, SAMPLES - 200, SAMPLES - 1, SAMPLES, SAMPLES + 777]
)
def test_the_features_are_pipecats(samples):
    audio = speechlike(samples)
    whole = np.pad(audio[-SAMPLES:], (max(0, SAMPLES - samples), 0))
    expected = theirs.compute_whisper_log_mel_features(whole)
    found = log_mel(audio)
    assert (found.shape, found.dtype) == ((BANDS, STEPS), np.float32)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_silence_has_features():
    assert np.isfinite(log_mel(np.zeros(SAMPLES, np.float32))).all()
