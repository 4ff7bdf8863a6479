"""What a search found, as it is shown: the words around it, with those that were searched for marked."""

from dataclasses import dataclass

from calls.models import Turn
from calls.models.folding import apart, joined, pieces
from calls.models.query import Query

WORDS_BEFORE = 5  # of the excerpt, before the first one found
MOST_WORDS = 18
MOST_CHARACTERS = 160  # of a word without blanks, such as a Japanese sentence


@dataclass(frozen=True)
class Word:
    """A word as it was said, and whether it was searched for."""

    text: str
    is_found: bool


@dataclass(frozen=True)
class Hit:
    """The turn that a search found in a call, and the words to show of it."""

    turn: Turn
    words: list[Word]
    cut_before: bool
    cut_after: bool


def excerpt(turn: Turn, query: Query) -> Hit:
    """Return the words of `turn` around the first one that `query` asks for."""
    phrases = [phrase for term in query.terms for phrases in term for phrase in phrases]
    whole = {word for phrase in phrases for word in phrase.words}
    begun = tuple(phrase.words[-1] for phrase in phrases if phrase.prefix)

    def is_found(text: str) -> bool:
        words = pieces(text)
        said = {*joined(words), *apart(words)}
        return bool(said & whole) or any(word.startswith(begun) for word in said)

    words = [Word(text[:MOST_CHARACTERS], is_found(text)) for text in turn.text.split()]
    # A number that was searched for put together is not marked; then the turn is shown from its start.
    first = next((n for n, word in enumerate(words) if word.is_found), 0)
    start = max(0, first - WORDS_BEFORE)
    end = start + MOST_WORDS
    return Hit(turn, words[start:end], start > 0, end < len(words))
