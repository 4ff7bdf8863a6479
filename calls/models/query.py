"""What is searched for: what people type into the search, taken apart as what is stored was.

- Words may stand in any order; all have to be in one turn, or all in what a call is called.
- "Words in quotes" stand one after the other, and so do the parts of a word with a hyphen or dots in it,
  and characters of scripts without blanks.
- A word ending in * is the beginning of one.
- Numbers are found however they are split: 030 1234 finds 0 30 12 34.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from django.db.models import Q

from .folding import apart, between_blanks, folded, is_number, joined, pieces

NAME_LETTERS = 3  # of a name or number that stand for all that begin with them

_QUOTES = str.maketrans(dict.fromkeys("“”„‟«»＂〝〞「」『』", '"'))
_PARTS = re.compile(r'"([^"]*)"?|([^\s"]+)')


@dataclass(frozen=True)
class Phrase:
    """Words in this order; of the last only the beginning has to be there if it is a `prefix`."""

    words: tuple[str, ...]
    prefix: bool = False

    @property
    def pattern(self) -> str:
        """What a text, folded, then contains."""
        return f" {' '.join(self.words)}{'' if self.prefix else ' '}"


Alternative = tuple[Phrase, ...]  # all of them
Term = tuple[Alternative, ...]  # any of them


@dataclass(frozen=True)
class Query:
    """What is searched for: all the terms, each in one of its readings. Without terms nothing is found."""

    terms: tuple[Term, ...]

    def matches(self, text: str) -> bool:
        """Return whether a folded text is found, as the databases have to judge it."""
        return bool(self.terms) and all(
            any(all(phrase.pattern in text for phrase in phrases) for phrases in term) for term in self.terms
        )

    def contained(self, column: str) -> Q:
        """Return the condition that a column of folded text is found, worked out text by text."""
        found = Q() if self.terms else Q(pk__in=[])
        for term in self.terms:
            readings = Q()
            for phrases in term:
                reading = Q()
                for phrase in phrases:
                    reading &= Q(**{f"{column}__contains": phrase.pattern})
                readings |= reading
            found &= readings
        return found

    @property
    def has_phrases(self) -> bool:
        """Whether words have to follow each other, which the indexes do not know."""
        return any(len(phrase.words) > 1 for term in self.terms for phrases in term for phrase in phrases)

    def for_names(self) -> "Query":
        """Return the query for names and numbers: the beginning of a word is enough, and no leading zeros.

        From `NAME_LETTERS` letters or digits on.
        """
        return Query(tuple(_for_names(term) for term in self.terms))

    def as_tsquery(self) -> str:
        """Return the query as PostgreSQL's tsquery; phrases are words in any order."""
        return self._written(" & ", " | ", lambda word, prefix: f"'{word}'{':*' if prefix else ''}")

    def as_fts5(self) -> str:
        """Return the query in the language of SQLite's FTS5; phrases are words in any order."""
        return self._written(" AND ", " OR ", lambda word, prefix: f'"{word}"{" *" if prefix else ""}')

    def _written(self, every: str, either: str, write: Callable[[str, bool], str]) -> str:
        """Return the query with these operators."""

        def reading(phrases: Alternative) -> str:
            words = dict.fromkeys(
                write(word, phrase.prefix and n == len(phrase.words))
                for phrase in phrases
                for n, word in enumerate(phrase.words, 1)
            )
            return f"({every.join(words)})"

        return every.join(f"({either.join(map(reading, term))})" for term in self.terms)


def parse(text: str) -> Query:
    """Return what `text` asks for. Nothing that people type is a mistake."""
    terms: list[Term] = []
    number: list[str] = []  # the words of a number so far

    def end_number() -> None:
        if number:
            terms.append(_number(" ".join(number)))
            number.clear()

    for quoted, word in _PARTS.findall(text.translate(_QUOTES)):
        if word and all(is_number(piece) for piece in apart(pieces(word))) and pieces(word):
            number.append(word)
            if word.endswith("*"):
                end_number()
            continue
        if term := _phrase(quoted or word):
            end_number()
            terms.append(term)
    end_number()
    return Query(tuple(dict.fromkeys(terms)))


def _phrase(text: str) -> Term:
    """Return the readings of words that follow each other; nothing if there are none."""
    words, prefix = pieces(text), text.endswith("*")
    readings = dict.fromkeys((tuple(joined(words)), tuple(apart(words))))
    return tuple((Phrase(reading, prefix),) for reading in readings if reading)


def _number(text: str) -> Term:
    """Return the readings of a number: all of it in one, or each of its pieces somewhere."""
    words, prefix = pieces(text), text.endswith("*")
    whole = Phrase(tuple(joined(words)), prefix)
    parts = apart(words)
    if len(parts) == 1:
        return ((whole,),)
    return ((whole,), tuple(Phrase((part,), prefix and n == len(parts)) for n, part in enumerate(parts, 1)))


def _for_names(term: Term) -> Term:
    """Return the readings of a term with beginnings for words, and with a number's leading zeros left out."""
    readings: list[Alternative] = []
    for phrases in term:
        begun = tuple(
            Phrase(phrase.words, phrase.prefix or len(phrase.words[-1]) >= NAME_LETTERS) for phrase in phrases
        )
        readings.append(begun)
        first = phrases[0].words[0]
        short = first.lstrip("0")
        if len(phrases) == len(phrases[0].words) == 1 and is_number(first) and len(short) >= NAME_LETTERS:
            readings.append((Phrase((short,), prefix=True),))
    return tuple(dict.fromkeys(readings))


def names_folded(names: Iterable[str]) -> str:
    """Return names and numbers as they are stored to be searched: of numbers every ending, too.

    With beginnings being enough, a number is then found by any of its parts.
    """
    texts = [folded(name).strip() for name in names]
    numbers = dict.fromkeys(word for text in texts for word in text.split() if is_number(word))
    endings = [number[n:] for number in numbers for n in range(1, len(number) - NAME_LETTERS + 1)]
    readings = [text.split() for text in texts] + [[ending] for ending in dict.fromkeys(endings)]
    return between_blanks(readings)
