"""Text and JSON from outside in a form that every database accepts."""

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from django.db.models import CharField, Model

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

MAX_DEPTH = 32
# Joiners after no letter, or an English one, where they join nothing and only make another name of it.
_IDLE_JOINERS = re.compile("(?<![^\x00-\x7f])[\u200c\u200d]+")
_JOINERS = "\u200c\u200d"


def storable_text(text: str) -> str:
    """Return `text` without NUL, which PostgreSQL refuses, and with lone surrogates replaced by "?"."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def one_line(text: str) -> str:
    """Return `text` as it may stand in a line with others: without line breaks and what is invisible.

    That is what reverses or hides a part of a name or number, such as a right-to-left override or a space
    without width. The joiners of scripts that need them stay.
    """
    shown = "".join(
        " " if unicodedata.category(character) in {"Cc", "Zl", "Zp"} else character
        for character in text
        if unicodedata.category(character) != "Cf" or character in _JOINERS
    )
    return " ".join(_IDLE_JOINERS.sub("", shown).split())


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


def is_storable(value: Any) -> bool:
    """Whether the JSON can be stored as it is."""
    return bool(storable_json(value) == value)


def columns(model: type[Model], row: "DataclassInstance") -> dict[str, Any]:
    """Return the row's values by column: each field of the dataclass is stored in the column of its name.

    Texts are made storable, like JSON, and cut to their columns; what is no TextField is a name and becomes
    one line. A dataclass within the row gives its own fields. Raises FieldDoesNotExist for a field without a
    column.
    """
    values: dict[str, Any] = {}
    for fact in fields(row):
        value = getattr(row, fact.name)
        if is_dataclass(value) and not isinstance(value, type):
            values |= columns(model, value)
            continue
        column = model._meta.get_field(fact.name)
        if isinstance(value, str):
            text = storable_text(value)
            value = one_line(text)[: column.max_length] if isinstance(column, CharField) else text
        elif isinstance(value, Mapping):
            value = storable_json(dict(value))
        values[fact.name] = value
    return values
