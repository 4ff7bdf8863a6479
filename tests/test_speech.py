"""How far the recogniser has got with a stretch of speech; words that were found are not lost on the way."""

import numpy as np

from calls.providers.local.moonshine import Transcript
from calls.providers.local.speech import BYTES_PER_SECOND, EARLIEST_CUT, PIECE_BYTES, Speech, quietest


def transcript(text, tokens=(1, 2)):
    return Transcript(text, tokens, -0.1, ended=True)


def seconds(count):
    return bytes(int(count * BYTES_PER_SECOND))


def glanced(speech, text, *, paused=False):
    speech.paused = paused
    _, was_paused = speech.look()
    return speech.glimpse(transcript(text), paused=was_paused)


def test_it_is_due_after_half_a_second_and_in_a_pause():
    speech = Speech(seconds(0.5))
    assert not speech.is_due
    speech.audio += seconds(0.5)
    assert speech.is_due
    assert speech.look() == (seconds(1), False)
    assert not speech.is_due
    speech.paused = True
    assert speech.is_due


def test_a_glance_tells_whether_the_words_are_new():
    speech = Speech(b"")
    assert glanced(speech, "I would")
    assert not glanced(speech, "I would")
    assert glanced(speech, "I would like")
    assert not glanced(speech, "You")  # held back: what was found stays
    assert speech.text == "I would like"


def test_a_pause_has_the_answer_until_there_is_more_than_silence():
    speech = Speech(seconds(1))
    glanced(speech, "Yes, please.", paused=True)
    speech.audio += seconds(0.13)
    assert speech.answer.text == "Yes, please."
    speech.audio += seconds(0.13)
    assert speech.answer is None


def test_long_speech_is_settled_in_pieces():
    speech = Speech(seconds(20))
    assert speech.is_long
    piece = speech.piece()
    assert len(piece) <= PIECE_BYTES
    speech.settle(piece, transcript("First piece."))
    assert len(speech.audio) == len(seconds(20)) - len(piece)
    assert not speech.draft
    rest = speech.piece() if not speech.is_long else None
    speech.settle(rest or bytes(speech.audio), transcript("Second piece."))
    assert speech.text == "First piece. Second piece."
    assert not speech.audio


def test_a_piece_whose_transcript_cannot_be_had_keeps_the_words_that_were_found():
    """What was looked at for them is not transcribed a second time."""
    speech = Speech(seconds(13))
    glanced(speech, "my order number is seven four two")
    speech.settle(seconds(7), None)
    assert speech.audio == b""
    speech.audio += seconds(1)
    speech.settle(speech.piece(), transcript("and that is all"))
    assert speech.text == "my order number is seven four two and that is all"


def test_a_piece_that_is_held_back_keeps_them_too():
    speech = Speech(seconds(2))
    glanced(speech, "two pizzas")
    speech.settle(speech.piece(), transcript("You"))
    assert speech.text == "two pizzas"


def test_a_cut_is_where_it_is_quietest_and_not_early():
    samples = np.full(PIECE_BYTES // 2, 1000, "<i2")
    samples[2 * 16000 : 2 * 16000 + 3000] = 0
    samples[9 * 16000 : 9 * 16000 + 3200] = 0
    cut = quietest(samples.tobytes()) / 2
    assert cut > EARLIEST_CUT
    assert 9 * 16000 <= cut <= 9 * 16000 + 3200
