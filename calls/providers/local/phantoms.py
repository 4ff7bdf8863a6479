"""What a speech recogniser writes though nobody said it, and how that is told from words.

Models learnt from subtitles write the likeliest subtitle when they hear nothing they know: on hold music
Moonshine writes "Thank you for watching!" or notes, on noise "You". Unsure, they invent; lost, they repeat.
"""

import re
from itertools import count

from calls.providers.local.moonshine import Transcript

# On 231 prompts and sentences of eight speakers, clean, through a telephone and in noise, what was understood
# had -0.70 at the least; what was made of noise had -0.9 to -1.4 where it was more than "You".
UNSURE = -1.0
# What is never said alone on a telephone, and is what the model makes of noise, tones and music.
NEVER_ALONE = frozenset(
    {"you", "thank you for watching", "thanks for watching", "thank you so much for watching",
     "please subscribe", "subscribe", "music", "applause", "silence", "the end", "so"}
)  # fmt: skip
MOST_REPEATS = 4  # of the same words in a row; "no, no, no, no" is an answer
LONGEST_UNIT = 8  # words that are looked for as repeated
_NUMBERS = frozenset(
    {"zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
     "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
     "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "double", "triple"}
)  # fmt: skip
_QUOTES = "\"'“”„‘’«»`"
_BRACKETED = re.compile(r"[\[(*][^\])*]*[\])*]|[♪♫]+")
LAST_LATIN = 0x24F


def spoken(transcript: Transcript) -> str:
    """The words of a transcript that somebody said, possibly none."""
    # A number may have the same digit ten times; not if the model would have gone on for ever.
    text = without_loops(_without_decoration(transcript.text), spare_numbers=transcript.ended)
    invented = transcript.confidence < UNSURE or _is_foreign(text)
    return "" if invented or not plain(text) or plain(text) in NEVER_ALONE else text


def plain(text: str) -> str:
    """The words alone, in lower case: what two transcripts of the same speech have in common."""
    return " ".join(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()))


def without_loops(text: str, *, spare_numbers: bool = True) -> str:
    """The text with words that are said over and over said once; numbers and letters may be spared."""
    words = text.split()
    bare = [plain(word) for word in words]
    at = 0
    while at < len(words):
        for size in range(1, min(LONGEST_UNIT, (len(words) - at) // 2) + 1):
            unit = bare[at : at + size]
            repeats = next(n for n in count(1) if bare[at + n * size : at + (n + 1) * size] != unit)
            if repeats > MOST_REPEATS and not (spare_numbers and all(map(_is_spelt, unit))):
                words[at + size - 1] = words[at + repeats * size - 1]  # with what comes after it
                del words[at + size : at + repeats * size]
                del bare[at + size : at + repeats * size]
                break
        at += 1
    return " ".join(words)


def _is_spelt(word: str) -> bool:
    return len(word) == 1 or word.isdigit() or word in _NUMBERS


def _is_foreign(text: str) -> bool:
    """Whether there are letters of another script: the model knows English and does not mean them."""
    return any(letter.isalpha() and ord(letter) > LAST_LATIN for letter in text)


def _without_decoration(text: str) -> str:
    """The text without notes, "[music]" and stray quotes."""
    text = _BRACKETED.sub(" ", text).strip().lstrip(_QUOTES)
    if text[-1:] and text[-1] in _QUOTES and not re.search(rf"[{_QUOTES}](?=\w)", text):
        text = text[:-1]
    return " ".join(text.split())
