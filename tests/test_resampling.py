"""The caller's voice at another rate: what it keeps, what it leaves out, and how late it comes."""

import numpy as np
import pytest

from calls.audio.resampling import Resampler

RATES = [(8000, 16000), (24000, 16000), (48000, 16000), (16000, 8000)]
LOUD = 8000.0


def tone(hz, rate, seconds=1.0):
    return (LOUD * np.sin(2 * np.pi * hz * np.arange(int(rate * seconds)) / rate)).astype(np.int16).tobytes()


def resampled(pcm, rate, to, samples=None):
    """The whole of it, given in pieces of so many samples."""
    resampler, size = Resampler(rate, to), 2 * (samples or rate // 50)
    return b"".join(resampler(pcm[at : at + size]) for at in range(0, len(pcm), size))


def spectrum(pcm, rate):
    """The level of each whole number of Hz, in dB below a full tone; of a second in its middle."""
    samples = np.frombuffer(pcm, np.int16)[rate // 4 : rate // 4 + rate].astype(float)
    window = np.hanning(rate)
    return 20 * np.log10(np.abs(np.fft.rfft(samples * window)) / (LOUD * window.sum() / 2) + 1e-9)


@pytest.mark.parametrize(("rate", "to"), RATES)
@pytest.mark.parametrize("hz", [300, 1000, 3000, 3400])
def test_a_tone_stays_as_it_is_and_brings_no_other(rate, to, hz):
    levels = spectrum(resampled(tone(hz, rate, 2), rate, to), to)
    assert levels.argmax() == hz
    assert abs(levels[hz]) < 0.2
    levels[hz - 5 : hz + 6] = -np.inf
    assert levels.max() < -60


@pytest.mark.parametrize(
    ("rate", "to", "hz"), [(16000, 8000, 5000), (24000, 16000, 10000), (48000, 16000, 15000)]
)
def test_what_the_lower_rate_cannot_hold_is_taken_away(rate, to, hz):
    assert spectrum(resampled(tone(hz, rate, 2), rate, to), to).max() < -55


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_pieces_of_any_size_make_the_same(rate, to):
    pcm = np.random.default_rng(1).integers(-9000, 9000, rate).astype(np.int16).tobytes()
    whole = np.frombuffer(resampled(pcm, rate, to, samples=rate), np.int16).astype(int)
    for samples in (1, 7, 160, 1001):
        pieces = np.frombuffer(resampled(pcm, rate, to, samples), np.int16)
        assert len(pieces) == len(whole)
        assert np.abs(pieces - whole).max() <= 1  # sums of floats in another order


@pytest.mark.parametrize(("rate", "to"), RATES)
def test_every_frame_comes_whole_and_2_ms_late_at_most(rate, to):
    resampler, frame = Resampler(rate, to), rate // 50
    click = np.zeros(50 * frame, np.int16)
    click[25 * frame] = 20_000
    out = [resampler(click[at : at + frame].tobytes()) for at in range(0, len(click), frame)]
    assert {len(piece) for piece in out} == {2 * to // 50}
    arrived = np.abs(np.frombuffer(b"".join(out), np.int16).astype(int)).argmax()
    assert 0 <= arrived / to - 0.5 <= 0.002


def test_too_loud_is_clipped_and_does_not_turn_over():
    square = np.where(np.arange(8000) % 40 < 20, 32767, -32768).astype(np.int16)
    samples = np.frombuffer(resampled(square.tobytes(), 8000, 16000), np.int16).astype(int)
    assert np.abs(np.diff(samples)).max() < 45_000


def test_the_same_rate_is_passed_on():
    assert Resampler(16000, 16000)(b"\1\2\3\4") == b"\1\2\3\4"
    assert Resampler(8000, 16000)(b"") == b""
