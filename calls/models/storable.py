"""Text and JSON from outside in a form that every database accepts."""

import math
from typing import Any

MAX_DEPTH = 32


def storable_text(text: str) -> str:
    """Return `text` without NUL, which PostgreSQL refuses, and with lone surrogates replaced by "?"."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def storable_json(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` in plain JSON types.

    Texts and keys pass through `storable_text`; NaN, infinities and whatever lies deeper than `MAX_DEPTH`
    become null; other objects become their text.
    """
    match value:
        case _ if depth > MAX_DEPTH or (isinstance(value, float) and not math.isfinite(value)):
            return None
        case None | bool() | int() | float():
            return value
        case dict():
            return {storable_text(str(key)): storable_json(item, depth + 1) for key, item in value.items()}
        case list() | tuple():
            return [storable_json(item, depth + 1) for item in value]
        case _:
            return storable_text(str(value))
