"""Compares what was said with what was recognised: the usual word error rate of speech recognition."""

import re

from num2words import num2words  # type: ignore[import-untyped]  # it has no type information


def words_of(text: str) -> list[str]:
    """The words in lower case, numbers spelled out, without punctuation."""
    text = re.sub(r"(\d),(\d{3})\b", r"\1\2", text.lower().replace("’", "'"))
    text = re.sub(r"\d+", lambda number: f" {num2words(int(number[0]))} ", text)
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", text.replace("-", " "))
    return " ".join(words).replace("good bye", "goodbye").split()


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Words replaced, dropped and added (Levenshtein's distance over words), and the words said."""
    wanted, got = words_of(said), words_of(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            cost = min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], cost
    return row[-1], len(wanted)


def word_error_rate(said: str, heard: str) -> float:
    """Word errors per word said. `said` must have at least one word."""
    errors, count = word_errors(said, heard)
    return errors / count
