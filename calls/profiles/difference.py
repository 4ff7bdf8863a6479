"""What differs between two configurations of a profile: words of its texts, and settings."""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum
from typing import Any

from calls.profiles.fields import UNSET, settings_of, texts_of

# Pairs of the same word in both texts that are looked at. A prompt of 3,000 words, written anew, has 30,000;
# the worst that fits takes less than a second.
MOST_PAIRS = 200_000
FOLDED_FROM = 600  # characters that stayed the same and are not shown as a whole
AROUND = 120  # characters that are shown of them at either end

# A word, what is between words, a sign; of scripts without blanks between words, a character.
_UNBROKEN = r"\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORDS = re.compile(rf"[{_UNBROKEN}]|[^\W{_UNBROKEN}]+|\s+|[^\w\s]")
_LINES = re.compile(r"[^\n]*\n|[^\n]+")


class Kind(StrEnum):
    """What became of a piece of text; the word is a class of the page's, too."""

    SAME = "same"
    GONE = "gone"
    NEW = "new"


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a text, and what became of it."""

    kind: Kind
    text: str

    @property
    def is_folded(self) -> bool:
        """Whether it is so long, and unchanged, that its ends will do."""
        return self.kind is Kind.SAME and len(self.text) >= FOLDED_FROM

    @property
    def head(self) -> str:
        """The beginning of what is folded."""
        return self.text[:AROUND]

    @property
    def middle(self) -> str:
        """What is folded away."""
        return self.text[AROUND:-AROUND]

    @property
    def tail(self) -> str:
        """The end of what is folded."""
        return self.text[-AROUND:]


@dataclass(frozen=True, slots=True)
class TextChange:
    """A text that differs: its field, and its pieces in order."""

    name: str
    label: str
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class SettingChange:
    """A setting that differs, as people read it."""

    name: str
    label: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs, in the order in which a profile has its fields."""

    texts: list[TextChange]
    settings: list[SettingChange]

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.texts or self.settings)


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Difference:
    """What differs between two configurations."""
    old_texts = {name: (label, text) for name, label, text in texts_of(before)}
    new_texts = {name: (label, text) for name, label, text in texts_of(after)}
    nothing = ("", "")
    texts = [
        TextChange(name, (new_texts.get(name) or old_texts[name])[0], pieces)
        for name in {**new_texts, **old_texts}
        if (pieces := _changed(old_texts.get(name, nothing)[1], new_texts.get(name, nothing)[1]))
    ]
    old = {name: (label, value) for name, label, value in settings_of(before)}
    new = {name: (label, value) for name, label, value in settings_of(after)}
    settings = [
        SettingChange(name, label, old.get(name, (label, UNSET))[1], new.get(name, (label, UNSET))[1])
        for name, (label, _) in {**new, **old}.items()
        if old.get(name, (label, UNSET))[1] != new.get(name, (label, UNSET))[1]
    ]
    return Difference(texts, settings)


def words(before: str, after: str) -> list[Piece]:
    """What became of each piece of a text: without what is new it is `before`, without what is gone `after`.

    Word by word; line by line, or as a whole, where texts are so repetitive that words would take too long.
    """
    for cut in (_WORDS.findall, _LINES.findall):
        if (pieces := _compared(before, after, cut)) is not None:
            return pieces
    return _pieces([(Kind.GONE, before), (Kind.NEW, after)])


def _changed(before: str, after: str) -> list[Piece]:
    """The pieces of a text; none if it is the same. A browser's ends of lines are as good as others."""
    before, after = before.replace("\r\n", "\n"), after.replace("\r\n", "\n")
    return words(before, after) if before != after else []


def _compared(before: str, after: str, cut: Callable[[str], Sequence[str]]) -> list[Piece] | None:
    """The pieces of two texts cut into tokens; None if that would take too long."""
    old, new = cut(before), cut(after)
    start = _same_at_start(old, new)
    end = _same_at_start(old[start:][::-1], new[start:][::-1])
    first, last = "".join(old[:start]), "".join(old[len(old) - end :])
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    if _pairs(old, new) > MOST_PAIRS:
        return None
    found: list[tuple[Kind, str]] = [(Kind.SAME, first)]
    # Blanks are no reason to take two places for the same one.
    for kind, a, b, c, d in SequenceMatcher(str.isspace, old, new).get_opcodes():
        gone, added = "".join(old[a:b]), "".join(new[c:d])
        found += [(Kind.SAME, gone)] if kind == "equal" else [(Kind.GONE, gone), (Kind.NEW, added)]
    return _pieces([*found, (Kind.SAME, last)])


def _pairs(old: Sequence[str], new: Sequence[str]) -> int:
    """How many pairs of the same token the matcher looks at, which leaves out what is very common."""
    counts = Counter(new)
    most = len(new) // 100 + 1 if len(new) >= 200 else len(new)
    return sum(n for token in old if not token.isspace() and (n := counts[token]) <= most)


def _same_at_start(old: Sequence[str], new: Sequence[str]) -> int:
    """How many tokens are the same at the start of both."""
    pairs = enumerate(zip(old, new, strict=False))
    return next((n for n, (a, b) in pairs if a != b), min(len(old), len(new)))


def _pieces(found: list[tuple[Kind, str]]) -> list[Piece]:
    """The pieces in order, what is gone before what is new; no blank stands alone between two changes."""
    done: list[Piece] = []
    gone = new = ""
    for n, (kind, text) in enumerate(found):
        is_between = kind is Kind.SAME and text.isspace() and (gone or new) and n + 1 < len(found) - 1
        if kind is Kind.SAME and not is_between:
            done += [Piece(Kind.GONE, gone), Piece(Kind.NEW, new), Piece(Kind.SAME, text)]
            gone = new = ""
        else:
            gone += text if kind is not Kind.NEW else ""
            new += text if kind is not Kind.GONE else ""
    done += [Piece(Kind.GONE, gone), Piece(Kind.NEW, new)]
    return [piece for piece in done if piece.text]
