"""Words that a recogniser showed count as said, whichever recogniser it is and however it ends."""

import time

import pytest
from pipecat.frames.frames import (
    InterimTranscriptionFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

from calls.pipeline import hearing
from calls.pipeline.hearing import HeardWords, LateTranscriptionFrame
from calls.providers.frames import CallerPausedFrame, SpeechTranscribedFrame
from tests.provider_harness import running


def partial(text):
    return InterimTranscriptionFrame(text, "caller", "now", "en")


def final(text):
    return TranscriptionFrame(text, "caller", "now", "en")


def started():
    return VADUserStartedSpeakingFrame(start_secs=0.2)


def stopped():
    return VADUserStoppedSpeakingFrame(stop_secs=0.2, timestamp=time.time())


@pytest.fixture
async def line():
    async with running(HeardWords()) as line:
        yield line


def finals(line):
    return [(frame.text, frame.finalized) for frame in line.out.of(TranscriptionFrame)]


async def after(line, *frames):
    """What is out once these frames, and a last one, have passed."""
    mark = started()
    await line.send(*frames, mark)
    await line.out.until(lambda: mark in line.out.frames)
    return line.out.frames


async def test_a_final_passes_and_nothing_is_added(line):
    await after(line, started(), partial("two"), stopped(), final("Two pizzas."), SpeechTranscribedFrame())
    assert finals(line) == [("Two pizzas.", False)]
    assert not line.out.of(SpeechTranscribedFrame)


async def test_a_recogniser_that_ends_with_nothing_has_said_what_it_showed(line):
    await after(line, started(), partial("two"), partial("two pizzas"), stopped(), SpeechTranscribedFrame())
    assert finals(line) == [("two pizzas", True)]
    assert not line.out.of(SpeechTranscribedFrame)


async def test_halves_of_characters_and_controls_are_none(line):
    await after(line, started(), partial("two \ud83d"), stopped(), final("two\x00 \ud83d\ude00 pizzas\udc00"))
    assert finals(line) == [("two 😀 pizzas", False)]
    assert line.out.of(InterimTranscriptionFrame)[0].text == "two "


async def test_a_final_without_words_does_not_count(line):
    await after(line, started(), partial("two pizzas"), stopped(), final(" "), SpeechTranscribedFrame())
    assert finals(line) == [("two pizzas", True)]


async def test_a_final_that_never_comes_is_not_waited_for(line, monkeypatch):
    monkeypatch.setattr(hearing, "LATE_S", 0.01)
    await line.send(started(), partial("two pizzas"), stopped())
    await line.out.first(LateTranscriptionFrame)
    assert finals(line) == [("two pizzas", True)]


async def test_a_final_that_comes_late_is_not_said_twice(line, monkeypatch):
    monkeypatch.setattr(hearing, "LATE_S", 0.01)
    await line.send(started(), partial("two pizza"), stopped())
    await line.out.first(TranscriptionFrame)
    await after(line, final("Two pizzas."), SpeechTranscribedFrame())
    assert finals(line) == [("two pizza", True)]
    await after(line, partial("and"), stopped(), final("And a salad."))
    assert finals(line)[1:] == [("And a salad.", False)]


async def test_other_words_after_a_final_that_never_came_are_said(line, monkeypatch):
    monkeypatch.setattr(hearing, "LATE_S", 0.01)
    await line.send(started(), partial("two pizzas"), stopped())
    await line.out.first(TranscriptionFrame)
    await after(line, started(), stopped(), final("When are you open?"))
    assert [text for text, _ in finals(line)] == ["two pizzas", "When are you open?"]


async def test_the_same_answer_twice_is_heard_twice(line):
    """The recogniser said of the first that it was done: what it says next is something else."""
    await after(line, started(), partial("Yes please"), stopped(), SpeechTranscribedFrame())
    await after(line, started(), stopped(), final("Yes, please."), SpeechTranscribedFrame())
    assert [text for text, _ in finals(line)] == ["Yes please", "Yes, please."]


async def test_speech_without_words_is_told(line):
    await after(line, started(), stopped(), SpeechTranscribedFrame())
    assert finals(line) == []
    assert len(line.out.of(SpeechTranscribedFrame)) == 1


async def test_words_of_speech_that_goes_on_are_not_final(line):
    await after(line, started(), partial("two"), stopped(), final("Two."), started(), partial("pizzas"))
    await after(line, SpeechTranscribedFrame())
    assert finals(line) == [("Two.", False)]


async def test_a_pause_is_for_the_recogniser_only(line):
    frames = await after(line, started(), CallerPausedFrame())
    assert not [frame for frame in frames if isinstance(frame, CallerPausedFrame)]
