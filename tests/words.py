"""What was said against what was heard: word error rates, as the field counts them."""

import re

from num2words import num2words


def words_of(text):
    """The words in lower case, numbers spelled out, without punctuation."""
    text = re.sub(r"(\d)[,](\d{3})\b", r"\1\2", text.lower().replace("’", "'"))
    text = re.sub(r"\d+", lambda number: f" {num2words(int(number[0]))} ", text)
    words = re.findall(r"[a-z]+(?:'[a-z]+)*", text.replace("-", " "))
    return " ".join(words).replace("good bye", "goodbye").split()


def word_errors(said, heard):
    """Words replaced, dropped and added, and the words said."""
    said, heard = words_of(said), words_of(heard)
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            cost = min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], cost
    return row[-1], len(said)


def word_error_rate(said, heard):
    """Word errors per word said."""
    errors, count = word_errors(said, heard)
    return errors / count
