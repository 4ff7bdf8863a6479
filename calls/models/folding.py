"""Text as it is searched: what people type is not what transcripts look like.

`pieces` takes a text apart, the same way for what is stored and for what is asked for; databases only compare
words between blanks. Case follows Unicode's full case folding and compatibility decomposition
(https://www.unicode.org/reports/tr15/ and tr44), so that ß is ss, ς is σ, １ is 1 and ﬁ is fi.
"""

import re
import unicodedata

MOST_CHARACTERS = 50_000  # of a text that are searched: an hour of speech
MOST_BYTES = 500_000  # of what is stored for it; PostgreSQL takes a megabyte
WORD_CHARACTERS = 64  # of a word that count
NUMBER_DIGITS = 20  # the longest number put together from a part of its pieces; telephone numbers have 15
NUMBER_PIECES = 40  # of a number in pieces that are put together
TAIL_LETTERS = 3  # what follows an apostrophe is a word of its own from here on: l'hôtel, but not don't
BREAK = "¦"  # no letter, so in no word: between two readings of a text

# Letters with a stroke or joined ones, which Unicode does not decompose, as people without the key type them.
_PLAIN = str.maketrans(
    {"ø": "o", "đ": "d", "ð": "d", "ł": "l", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th"}
)
# Scripts without blanks between words: each of their characters is a word, and several are a phrase.
_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "]"
)
# Before anything else, as compatibility decomposition takes some of them for accents on a blank.
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘‛ʼʹ`´′＇ʻʾʿ", "'"))


class _Characters(dict[int, str]):
    """What each character becomes, by code point; worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _character(chr(code))
        return found


_characters = _Characters()


def pieces(text: str) -> list[list[str]]:
    """Return the words of `text`, each as its pieces, without case, accents and punctuation.

    Most words have one piece. A number in several ("030 12-34") is one word of three; so is what an
    apostrophe holds together ("l'hôtel"), unless its end is short ("don't" is "dont").
    """
    plain = _normal(text[:MOST_CHARACTERS]).translate(_characters)
    found: list[list[str]] = []
    after_number = False
    for word in plain.split():
        if is_number(word):
            if after_number:
                found[-1].append(word[:WORD_CHARACTERS])
            else:
                found.append([word[:WORD_CHARACTERS]])
            after_number = True
        elif parts := _parts(word):
            found.append(parts)
            after_number = False
    return found


def joined(words: list[list[str]]) -> list[str]:
    """Return the words with their pieces put together: "0301234"."""
    return ["".join(word)[:WORD_CHARACTERS] for word in words]


def apart(words: list[list[str]]) -> list[str]:
    """Return the words' pieces one by one: "030", "12", "34"."""
    return [piece for word in words for piece in word]


def folded(text: str) -> str:
    """Return `text` as it is stored to be searched: words between blanks, with one at both ends; "" for none.

    A text with words in several pieces is there twice, with its pieces together and apart; then follow the
    parts of its numbers, so that "12 34" finds "0 30 12 34".
    """
    words = pieces(text)
    readings = [joined(words)]
    if any(len(word) > 1 for word in words):
        readings += [apart(words), *([part] for word in words for part in _partial_numbers(word))]
    return between_blanks(readings)


def between_blanks(readings: list[list[str]]) -> str:
    """Return the readings' words, each between blanks, with a `BREAK` between two readings."""
    text = f" {BREAK} ".join(" ".join(words) for words in readings if words)
    if len(text) > MOST_BYTES // 4:  # else it can't be longer in bytes
        shorter = text.encode()[:MOST_BYTES].decode(errors="ignore")
        text = shorter.rpartition(" ")[0]
    return f" {text} " if text else ""


def is_number(word: str) -> bool:
    """Return whether a folded word consists of digits only."""
    return word.isascii() and word.isdigit()


def _normal(text: str) -> str:
    """Return `text` in one case, without accents, composed again."""
    text = text.translate(_APOSTROPHES)
    if text.isascii():
        return text.lower()
    # Twice, as some characters only decompose into ones that have a case, or into apostrophes.
    for _ in range(2):
        text = unicodedata.normalize("NFKD", text.casefold()).translate(_APOSTROPHES)
    return unicodedata.normalize("NFC", "".join(c for c in text if not _is_accent(c)).translate(_PLAIN))


def _is_accent(character: str) -> bool:
    """Return whether it is a mark on a letter that people leave out.

    Those are the accents above, below and through letters (combining classes 200 and more, Latin, Greek,
    Cyrillic and others) and the points of Hebrew, Arabic and Syriac (10 to 36). Vowel signs of Indian and
    other scripts have lower classes or none and are part of the word, as are Japanese voice marks (8).
    """
    order = unicodedata.combining(character)
    return 10 <= order <= 36 or order >= 200


def _character(character: str) -> str:
    """Return what becomes of a character: itself in a word, an apostrophe, a blank or nothing."""
    category = unicodedata.category(character)
    if character == "'":
        return character
    if category == "Cf" or character == "ـ" or "\ufe00" <= character <= "\ufe0f":
        return ""  # invisible, an Arabic letter's lengthening, a hint about a glyph
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if not character.isalnum() and category not in ("Mn", "Mc"):
        return " "
    return f" {character} " if _UNSPACED.match(character) else character


def _parts(word: str) -> list[str]:
    """Return the pieces of a word around its apostrophes; nothing if it consists of those."""
    if "'" not in word:
        return [word[:WORD_CHARACTERS]]
    parts = [part[:WORD_CHARACTERS] for part in word.split("'") if part]
    if any(len(part) >= TAIL_LETTERS for part in parts[1:]):
        return parts
    return ["".join(parts)[:WORD_CHARACTERS]] if parts else []


def _partial_numbers(word: list[str]) -> list[str]:
    """Return neighbouring pieces of a number put together, all but the single ones and the whole."""
    if len(word) < 3 or not is_number(word[0]):
        return []
    found = []
    for first in range(min(len(word), NUMBER_PIECES)):
        number = word[first]
        for piece in word[first + 1 : NUMBER_PIECES]:
            number += piece
            if len(number) > NUMBER_DIGITS:
                break
            found.append(number)
    return [number for number in dict.fromkeys(found) if number != "".join(word)]
