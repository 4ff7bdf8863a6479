"""What a telephone line leaves of a voice, and the voices themselves."""

import numpy as np
import pytest

from calls.simulator.line import LINES, clipped, gain, noisy, telephone
from calls.simulator.voices import VOICES, speak

RATE = 16_000


def tone(hz, seconds=1.0, level=0.3):
    return (
        (level * 32767 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE))
        .astype("<i2")
        .tobytes()
    )


def level_db(pcm):
    samples = np.frombuffer(pcm, "<i2").astype(float) / 32768
    return 20 * np.log10(np.sqrt((samples**2).mean()) + 1e-9)


@pytest.mark.parametrize("codec", ["ULAW", "ALAW", "GSM610"])
def test_a_telephone_passes_its_band_and_nothing_else(codec):
    assert level_db(telephone(tone(1000), codec)) == pytest.approx(level_db(tone(1000)), abs=1.5)
    for outside in (60, 5000, 7000):
        assert level_db(telephone(tone(outside), codec)) < level_db(tone(outside)) - 25


def test_noise_is_so_far_below_the_speech():
    speech = tone(1000)
    noise = np.frombuffer(noisy(speech, 20), "<i2").astype(int) - np.frombuffer(speech, "<i2")
    assert level_db(noise.astype("<i2").tobytes()) == pytest.approx(level_db(speech) - 20, abs=0.5)


def test_quieter_and_overdriven():
    assert level_db(gain(tone(1000), -30)) == pytest.approx(level_db(tone(1000)) - 30, abs=0.1)
    samples = np.abs(np.frombuffer(clipped(tone(1000)), "<i2").astype(int))
    assert (samples >= samples.max() - 1).mean() > 0.8


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("seconds", [0, 0.01, 1.0001])
def test_every_line_keeps_the_length(name, seconds):
    assert len(LINES[name](tone(500, seconds))) == len(tone(500, seconds))


@pytest.mark.parametrize("voice", VOICES)
def test_every_voice_speaks(voice):
    pcm = speak("Are you open on Sunday?", voice)
    assert 0.8 < len(pcm) / 2 / RATE < 3
    assert level_db(pcm) > -40


def test_a_text_may_begin_with_a_dash():
    assert len(speak("-5 degrees", "espeak")) > RATE


@pytest.mark.parametrize("voice", VOICES)
def test_a_voice_may_be_slower_or_faster(voice):
    slow, fast = (len(speak("Are you open on Sunday?", voice, pace)) for pace in (0.8, 1.25))
    assert slow > 1.2 * fast


def test_a_voice_that_is_not_there_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="Debian's package flite"):
        speak("Hello.", "slt")
    with pytest.raises(ValueError, match="expected one of hibari, slt"):
        speak("Hello.", "nobody")
