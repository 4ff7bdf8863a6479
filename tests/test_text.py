"""Text from outside as whole characters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.text import WholeText, whole

ANY_TEXT = st.text(st.characters())  # lone surrogates included


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Paris \ud83d is nice.", "Paris  is nice."),
        ("\ude00 and \ud83d", " and "),
        ("a \ud83d\ude00 b", "a 😀 b"),
        ("a\x00b\x1b[2Jc\td\r\ne\x7f", "ab[2Jc\td\r\ne"),
        ("é漢👩‍🚀", "é漢👩‍🚀"),
        ("", ""),
    ],
)
def test_whole_characters_are_left(text, expected):
    assert whole(text) == expected


@given(ANY_TEXT)
def test_whatever_comes_can_be_encoded(text):
    assert whole(text).encode().decode() == whole(text)
    assert whole(whole(text)) == whole(text)


@given(ANY_TEXT, st.lists(st.integers(0, 20), max_size=6))
def test_however_it_is_cut_it_is_the_same(text, cuts):
    """A high half at the very end is the one thing that waits."""
    stream, pieces, at = WholeText(), [], 0
    for length in [*cuts, len(text)]:
        pieces.append(stream.add(text[at : at + length]))
        at += length
    assert "".join(pieces) == whole(text)


def test_a_half_that_waits_is_forgotten_at_the_end():
    stream = WholeText()
    assert stream.add("a\ud83d") == "a"
    assert stream.add("\ude00b") == "😀b"
    assert stream.add("\ud83d") == ""
    stream.end()
    assert stream.add("\ude00c") == "c"
