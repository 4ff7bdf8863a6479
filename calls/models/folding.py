"""Text as it is searched: what people type is not what transcripts look like."""

import re

_APOSTROPHES = re.compile("['’]")
_WORD = re.compile(r"\w+")


def folded(text: str) -> str:
    """The words of `text` in one case and one blank apart, without punctuation and apostrophes."""
    return " ".join(_WORD.findall(_APOSTROPHES.sub("", text.casefold())))
