"""Removes from transcripts what the recogniser wrote though nobody said it.

Models trained on subtitles write a likely subtitle when there is no speech: for hold music Moonshine writes
"Thank you for watching!" or notes, for noise "You". When uncertain they invent words or repeat themselves.
"""

import re
from itertools import count

from calls.providers.local.moonshine import Transcript

# Measured on 231 prompts and sentences of eight speakers, clean, over a telephone and in noise: what was
# recognised rightly had at least -0.70; what was invented for noise, and was not "You", had -0.9 to -1.4.
UNSURE = -1.0
# What the model writes for noise, tones and music, and what nobody says on a telephone as a whole utterance.
NEVER_ALONE = frozenset(
    {"you", "thank you for watching", "thanks for watching", "thank you so much for watching",
     "please subscribe", "subscribe", "music", "applause", "silence", "the end", "so"}
)  # fmt: skip
MOST_REPEATS = 4  # of the same words in a row; "no, no, no, no" is an answer
LONGEST_UNIT = 8  # words in a repeated phrase, at most
_NUMBERS = frozenset(
    {"zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
     "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
     "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety", "hundred", "double", "triple"}
)  # fmt: skip
_QUOTES = "\"'“”„‘’«»`"
_BRACKETED = re.compile(r"[\[(*][^\])*]*[\])*]|[♪♫]+")
LAST_LATIN = 0x24F


def spoken(transcript: Transcript) -> str:
    """The words of a transcript that somebody said; "" if none."""
    # A number may have the same digit ten times, but not where the model had to be stopped.
    text = without_loops(_without_decoration(transcript.text), spare_numbers=transcript.ended)
    invented = transcript.confidence < UNSURE or _is_foreign(text)
    return "" if invented or not plain(text) or plain(text) in NEVER_ALONE else text


def plain(text: str) -> str:
    """The words alone, in lower case, for comparing two transcripts of the same speech."""
    return " ".join(re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower()))


def without_loops(text: str, *, spare_numbers: bool = True) -> str:
    """Write words that repeat many times in a row only once; `spare_numbers` keeps numbers and letters."""
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
    """Whether there are letters of another script, which an English model does not write for speech."""
    return any(letter.isalpha() and ord(letter) > LAST_LATIN for letter in text)


def _without_decoration(text: str) -> str:
    """The text without notes, "[music]" and stray quotes."""
    text = _BRACKETED.sub(" ", text).strip().lstrip(_QUOTES)
    if text[-1:] and text[-1] in _QUOTES and not re.search(rf"[{_QUOTES}](?=\w)", text):
        text = text[:-1]
    return " ".join(text.split())
