"""What the agent says is a template: `{{ caller }}` and a few more names, with defaults. Nothing else runs.

Django's engine reads a text, with no tag and no filter loaded but `default`; what it reads is looked up here,
by name, in texts of bounded length. A name that is not known is refused when a profile is published, and is
spoken as nothing in a call.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from django.template import Engine, Library, Template, TemplateSyntaxError
from django.template.base import Node, TextNode, Variable, VariableNode
from django.utils import timezone
from django.utils.dates import MONTHS, WEEKDAYS
from django.utils.translation import trans_real

from calls.models.storable import one_line

logger = logging.getLogger(__name__)

MOST_CHARS = 20_000  # of a text, before and after
VALUE_CHARS = 200  # of a value: callers and clients send them
MOST_TAGS = 100  # in a text: finding them takes time in proportion to their number times its length
MOST_VALUES = 100  # of a call's metadata
DEPTH = 4  # of nested metadata
NAMES = ("caller", "callee", "now", "profile")
METADATA = "metadata."
# The texts of a profile that are templates, and the names that only they know.
TEXTS: dict[str, tuple[str, ...]] = {
    "system_prompt": (),
    "greeting": (),
    "apology": (),
    "farewell": (),
    "transfer_announcement": ("destination",),
}
SAMPLE = {
    "caller": "+49 30 1234567",
    "callee": "100",
    "profile": "Receptionist",
    "destination": "our sales desk",
}
ONLY = 'Only {{ name }} and {{ name|default:"…" }} can be used.'
_OPENING = re.compile(r"\{[{%]")
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", re.DOTALL)


class _BareEngine(Engine):
    default_builtins: ClassVar[list[str]] = []


def _default(value: str, other: str) -> str:
    return value or other


_library = Library()
_library.filter("default", _default)
_engine = _BareEngine(autoescape=False)
_engine.template_builtins.append(_library)


def render(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with these values, by name, in the places of their names; at most 20,000 characters.

    A name without a value is left out, and so is what is no template, with a line in the log.
    """
    if "{" not in text:
        return text
    try:
        nodes = _read(text)
    except TemplateSyntaxError as e:
        logger.error("a text that cannot be read as a template is spoken without its tags: %s", e)
        return _TAG.sub("", text[:MOST_CHARS], MOST_TAGS)
    return "".join(_spoken(node, values) for node in nodes)[:MOST_CHARS]


def problems(text: str, also: tuple[str, ...] = ()) -> list[str]:
    """Return what is wrong with a template, in sentences; `also` are names known besides the usual ones."""
    try:
        nodes = _read(text)
    except TemplateSyntaxError as e:
        why = str(e).partition(". Did you")[0]
        return [f"This cannot be read: {why}. {ONLY}"]
    if any(isinstance(node, TextNode) and _OPENING.search(node.s) for node in nodes):
        return [f"A {{{{ or {{% is not closed. {ONLY}"]
    known = (*NAMES, *also)
    unknown = dict.fromkeys(name for name in _names(nodes) if not _is_known(name, known))
    choice = ", ".join((*known, METADATA + "*"))
    return [f"{{{{ {name} }}}} is not known; there are {choice}." for name in unknown]


def problems_of(configuration: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what is wrong with the texts of a profile's configuration, by field."""
    found = {field: problems(configuration.get(field) or "", also) for field, also in TEXTS.items()}
    return {field: wrong for field, wrong in found.items() if wrong}


def values_of(
    *,
    caller: str | None,
    callee: str | None,
    profile: str,
    metadata: Mapping[str, Any],
    language: str,
    now: datetime | None = None,
) -> dict[str, str]:
    """Return a call's values by name, each in one line of bounded length.

    `now` (aware; None: the present) is told in the server's time zone, with the language's names of days.
    """
    told = {
        "caller": caller or "",
        "callee": callee or "",
        "profile": profile,
        "now": _words(timezone.localtime(now, timezone.get_default_timezone()), language),
    }
    for number, (name, value) in enumerate(_flat(metadata, METADATA)):
        if number == MOST_VALUES:
            break
        told[name] = value
    return {name: one_line(value)[:VALUE_CHARS] for name, value in told.items()}


def samples_for(texts: Mapping[str, str], language: str) -> dict[str, str]:
    """Return values for a preview of these texts, which name the metadata that there is."""
    names = [name for text in texts.values() for name in names_in(text) if name.startswith(METADATA)]
    metadata = {name: f"‹{name.removeprefix(METADATA)}›" for name in names}
    told = values_of(caller=None, callee=None, profile="", metadata={}, language=language)
    return told | SAMPLE | metadata


def names_in(text: str) -> list[str]:
    """Return the names that a text uses; none of one that cannot be read."""
    try:
        return list(_names(_read(text)))
    except TemplateSyntaxError:
        return []


@lru_cache(maxsize=128)
def _read(text: str) -> tuple[Node, ...]:
    """The parts of a template. Raises TemplateSyntaxError."""
    if len(text) > MOST_CHARS:
        raise TemplateSyntaxError(f"it has {len(text):,} characters, more than {MOST_CHARS:,}")
    if (tags := sum(map(text.count, ("{{", "{%", "{#")))) > MOST_TAGS:
        raise TemplateSyntaxError(f"it has {tags} places for names, more than {MOST_TAGS}")
    return tuple(Template(text, engine=_engine).nodelist)


def _spoken(node: Node, values: Mapping[str, str]) -> str:
    if isinstance(node, TextNode):
        return node.s
    if not isinstance(node, VariableNode):
        return ""
    expression = node.filter_expression
    found = _value(expression.var, values)
    for _function, arguments in expression.filters:
        for is_name, argument in arguments:
            found = _default(found, _value(argument, values) if is_name else str(argument))
    return found


def _value(variable: Variable | str, values: Mapping[str, str]) -> str:
    """What a name, or a text in quotes, stands for."""
    if not isinstance(variable, Variable):
        return str(variable)
    return values.get(_name(variable), "") if variable.lookups else str(variable.literal or "")


def _name(variable: Variable) -> str:
    return ".".join(variable.lookups or ())


def _names(nodes: tuple[Node, ...]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, VariableNode):
            expression = node.filter_expression
            arguments = [each for _, given in expression.filters for is_name, each in given if is_name]
            for variable in (expression.var, *arguments):
                if isinstance(variable, Variable) and variable.lookups:
                    yield _name(variable)


def _is_known(name: str, known: tuple[str, ...]) -> bool:
    return name in known or (name.startswith(METADATA) and len(name) > len(METADATA))


def _flat(metadata: Mapping[str, Any], prefix: str, depth: int = 0) -> Iterator[tuple[str, str]]:
    """The texts and numbers of nested metadata by their names: metadata.order.number."""
    for key, value in metadata.items():
        if isinstance(value, Mapping) and depth < DEPTH:
            yield from _flat(value, f"{prefix}{key}.", depth + 1)
        elif isinstance(value, bool):
            yield f"{prefix}{key}", "yes" if value else "no"
        elif isinstance(value, str | int | float):
            yield f"{prefix}{key}", str(value)


def _words(at: datetime, language: str) -> str:
    """A moment in words: Thursday, 26 November 2026, 06:51."""
    try:
        translated = trans_real.translation(trans_real.get_supported_language_variant(language.lower()))
    except LookupError:
        translated = trans_real.translation("en")
    day, month = (translated.gettext(str(each)) for each in (WEEKDAYS[at.weekday()], MONTHS[at.month]))
    return f"{day}, {at.day} {month} {at.year}, {at:%H:%M}"
