"""What the recogniser writes though nobody said it is held back; what was said is not."""

import numpy as np
import pytest

from calls.providers.local import phantoms
from calls.providers.local.moonshine import (
    TOKENS_BESIDE,
    TOKENS_PER_SECOND,
    Moonshine,
    Transcript,
    tiny_folder,
)
from calls.simulator.line import telephone

RATE = 16_000


def transcript(text, confidence=-0.1):
    return Transcript(text, (), confidence, ended=True)


@pytest.fixture(scope="module")
def model():
    return Moonshine(tiny_folder())


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("You", ""),
        ("2-3ตวบนลาง 01/06/25", ""),
        ("you.", ""),
        ("Thank you for watching!", ""),
        ("Thanks for watching.", ""),
        ("You you you you you", ""),
        ("So, so, so, so, so, so,", ""),
        ("♪ ♪ ♪", ""),
        ("[Music]", ""),
        ("(upbeat music) Hello there.", "Hello there."),
        ("ตวบนลาง", ""),
        ("...", ""),
        ('"Hello there.', "Hello there."),
        ("''Hello there.", "Hello there."),
        ("Hello there.\"", "Hello there."),
        ("Thank you.", "Thank you."),
        ("You are right.", "You are right."),
        ("Thank you for waiting.", "Thank you for waiting."),
        ("It's Peter O'Neill's bike.", "It's Peter O'Neill's bike."),
        ("A café in Zürich.", "A café in Zürich."),
        ("50% off → now", "50% off → now"),
    ],
)  # fmt: skip
def test_inventions_are_told_from_words(written, spoken):
    assert phantoms.spoken(transcript(written)) == spoken


def test_what_the_model_is_not_sure_of_is_held_back():
    assert phantoms.spoken(transcript("So, I'm going to go with you.", -1.2)) == ""
    assert phantoms.spoken(transcript("Yes, please.", -0.7)) == "Yes, please."


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("I do. I do. I do. I do. I do. I do.", "I do."),
        ("and the and the and the and the and the and the shop", "and the shop"),
        ("no no no no", "no no no no"),
        ("five five five five five five one two", "five five five five five five one two"),
        ("0 0 0 0 0 0", "0 0 0 0 0 0"),
        ("ten ten ten ten ten ten", "ten ten ten ten ten ten"),
        ("B, B, B, B, B, B.", "B, B, B, B, B, B."),
        ("No, no, no, no, no, no.", "no."),
        ("It was very, very good.", "It was very, very good."),
        ("", ""),
    ],
)
def test_what_is_said_over_and_over_is_said_once(written, spoken):
    assert phantoms.without_loops(written) == spoken


def test_digits_without_end_are_a_loop():
    lost = Transcript("zero " * 20, (), -0.1, ended=False)
    assert phantoms.spoken(lost) == "zero"


def sounds():
    """Sounds without words, by name: 16 kHz samples from -1 to 1."""
    seconds = np.arange(3 * RATE) / RATE
    dice = np.random.default_rng(3)

    def tones(*hz):
        return sum(0.3 / len(hz) * np.sin(2 * np.pi * f * seconds) for f in hz)

    def music():
        played = np.zeros(3 * RATE)
        for number in range(9):
            note = 220 * 2 ** (dice.integers(0, 24) / 12)
            t = np.arange(int(0.4 * RATE)) / RATE
            pluck = np.exp(-6 * t) * sum(np.sin(2 * np.pi * note * k * t) / k for k in (1, 2, 3))
            at = number * RATE // 3
            played[at : at + len(pluck)] += 0.2 * pluck[: len(played) - at]
        return played

    yield "silence", np.zeros(2 * RATE)
    yield "a dial tone", tones(350, 440)
    yield "a fax", tones(1100)
    yield "a busy tone", tones(480) * ((seconds * 2).astype(int) % 2)
    yield "a chord", tones(262, 330, 392)
    yield "hold music", music()
    for level in (0.003, 0.03, 0.1, 0.3):
        for length in (0.4, 1.0, 3.0):
            yield f"noise {level} for {length} s", level * dice.standard_normal(int(length * RATE))


@pytest.mark.parametrize(
    ("name", "samples"), list(sounds()), ids=lambda value: value if isinstance(value, str) else ""
)
@pytest.mark.parametrize("line", [lambda pcm: pcm, telephone], ids=["wideband", "telephone"])
def test_nothing_is_heard_where_nothing_is_said(model, name, samples, line):
    """Even if the voice activity detector took it for speech."""
    heard = model.transcribe(line((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()))
    assert phantoms.spoken(heard) == "", heard
    assert len(heard.tokens) <= len(samples) / RATE * TOKENS_PER_SECOND + TOKENS_BESIDE
