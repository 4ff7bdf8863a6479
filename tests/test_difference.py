"""What differs between two versions of a profile: words and settings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calls.models import PromptProfile
from calls.profiles import difference
from calls.profiles.difference import Kind, between, words

_texts = st.lists(
    st.sampled_from(["one", "two", " ", "\n", ".", "é", "日", "本", "  "]) | st.text(max_size=3)
)


def shown(before, after):
    """The pieces as people write them in mails."""
    marks = {Kind.SAME: "{}", Kind.GONE: "[-{}-]", Kind.NEW: "[+{}+]"}
    return "".join(marks[piece.kind].format(piece.text) for piece in words(before, after))


@settings(max_examples=300, deadline=None)
@given(before=_texts.map("".join), after=_texts.map("".join))
def test_nothing_is_lost_and_nothing_made_up(before, after):
    pieces = words(before, after)
    assert "".join(piece.text for piece in pieces if piece.kind is not Kind.NEW) == before
    assert "".join(piece.text for piece in pieces if piece.kind is not Kind.GONE) == after
    assert all(piece.text for piece in pieces)
    if before == after:
        assert {piece.kind for piece in pieces} <= {Kind.SAME}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("Answer in two short sentences.", "Answer in two sentences.", "Answer in two [-short -]sentences."),
        ("Hello, Anna!", "Hello, Berta!", "Hello, [-Anna-][+Berta+]!"),
        ("Hello dear friend", "Goodbye my enemy", "[-Hello dear friend-][+Goodbye my enemy+]"),
        ("", "Hi", "[+Hi+]"),
        ("営業時間は九時です", "営業時間は十時です", "営業時間は[-九-][+十+]時です"),
        ("über Öl", "über Gas", "über [-Öl-][+Gas+]"),
    ],
)
def test_words_are_what_is_compared(before, after, expected):
    assert shown(before, after) == expected


def test_texts_that_repeat_themselves_are_compared_in_larger_pieces():
    """Word by word they would keep the processor for minutes."""
    names = [f"w{n}" for n in range(90)]
    old = " ".join(names * 55)
    new = " ".join(names[::-1] * 55)
    assert shown(f"First line.\n{old}\nLast line.", f"First line.\n{new}\nLast line.") == (
        f"First line.\n[-{old}\n-][+{new}\n+]Last line."
    )
    assert len(old) < 20_000, "what a prompt may have"


def test_what_is_long_and_the_same_is_folded():
    same = "The shop is open. " * 60
    (first, *_rest) = words(f"{same}Bye.", f"{same}See you.")
    assert first.is_folded
    assert first.head + first.middle + first.tail == first.text
    assert not any(piece.is_folded for piece in words("short a", "short b"))
    assert not any(piece.is_folded for piece in words("", same)), "what is new is shown"


class TestConfigurations:
    def of(self, **fields):
        return PromptProfile(system_prompt="Be brief.", **fields).configuration()

    def test_texts_and_settings_in_the_order_of_the_fields(self):
        changed = between(
            self.of(),
            self.of(
                greeting="Hi", farewell="Bye", language="de", max_duration_s=60, allow_interruptions=False,
                end_of_turn="silence", llm_provider="openai", llm_settings={"temperature": 0.5},
            ),
        )  # fmt: skip
        assert [text.name for text in changed.texts] == ["greeting", "farewell"]
        assert [(s.label, s.before, s.after) for s in changed.settings] == [
            ("Language", "English", "German"),
            ("Language model", "Automatic", "OpenAI"),
            ("Language model: temperature", "not set", "0.5"),
            ("Allow interruptions", "yes", "no"),
            ("End of turn", "Smart: judged from how the caller speaks", "Silence: a fixed pause"),
            ("Longest duration", "3600 s", "60 s"),
        ]

    def test_the_same_is_empty(self):
        assert between(self.of(), self.of()).is_empty
        assert not between(self.of(), self.of(greeting="Hi")).is_empty

    def test_how_lines_end_is_no_difference(self):
        assert between(self.of(greeting="a\r\nb"), self.of(greeting="a\nb")).is_empty

    def test_a_field_that_profiles_do_not_have_any_more_is_shown_by_its_name(self):
        changed = between(self.of() | {"mood": "merry"}, self.of())
        assert [(s.label, s.before, s.after) for s in changed.settings] == [("Mood", "merry", "not set")]
        assert not changed.texts


def test_the_bound_is_what_keeps_it_quick(monkeypatch):
    monkeypatch.setattr(difference, "MOST_PAIRS", 0)
    assert shown("a b c", "b a c") == "[-a b c-][+b a c+]"
