"""Whether what is said ends with one of a profile's phrases, however it is written."""

import pytest

from calls.conversation.goodbye import at_end, letters_of

PHRASES = letters_of("Goodbye\n\n  See you \n?!\nauf Wiederhören")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("Thank you very much, and goodbye.", "Goodbye"),
        ("Thank you very much and good-bye.", "Goodbye"),
        ("Good Bye!", "Goodbye"),
        ("so see you", "See you"),
        ("Auf Wieder-Hören", "auf Wiederhören"),
        ("I wanted to say goodbye to him.", ""),
        ("We oversee you", ""),
        ("agoodbye", ""),
        ("", ""),
        ("?!", ""),
    ],
)
def test_a_phrase_counts_at_the_end_however_it_is_written(text, phrase):
    assert at_end(text, PHRASES) == phrase


def test_without_phrases_nothing_ends():
    assert at_end("Goodbye", letters_of(" \n?")) == ""
