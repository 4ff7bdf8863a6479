"""YAML as profiles are written in it: plain values only, exact both ways, and a place for every mistake.

Of YAML 1.2 the part that is JSON in another dress, so that `no` is a word and no date is guessed. There are
no aliases, which make small files large, and no tags, which make objects.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

MOST_CHARS = 300_000  # of a file
DEEPEST = 40  # one within the other; JSON that is stored is at most 32 deep
LINE_CHARS = 100

_PLAIN_LINES = re.compile("[\n -~\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010fffd]*")
_RESOLVERS = (
    ("tag:yaml.org,2002:bool", r"true|false", "tf"),
    ("tag:yaml.org,2002:null", r"null|~|", ["n", "~", ""]),
    ("tag:yaml.org,2002:int", r"-?(?:0|[1-9][0-9]*)", "-0123456789"),
    ("tag:yaml.org,2002:float", r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?", "-0123456789"),
)
# What PyYAML says of mistakes people often make, and what helps.
_HELP = (
    ("cannot start any token", "\\t", "indent with blanks, not with tabs"),
    ("cannot start any token", "", "put the text into quotes"),
    (
        "mapping values are not allowed",
        "",
        "put a text with a colon into quotes",
    ),
    (
        "could not find expected ':'",
        "",
        "expected “name: value”; several lines begin with “name: |-”",
    ),
    ("expected <block end>", "", "expected the next “name: value”, as far to the right as the one before"),
    ("found unexpected end of stream", "", "a quote or bracket is not closed"),
    ("expected the node content", "", "expected a value"),
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is in a file, counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


class BadYaml(ValueError):
    """A file that cannot be read; the message says where, what is wrong and what was expected."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        # Blanks at the end of a line come back as well, whatever PyYAML fears for them.
        analysis.allow_block = analysis.allow_block or bool(_PLAIN_LINES.fullmatch(scalar))
        return analysis

    def write_text(self, text: str) -> ScalarNode:
        style = None
        if re.search("[\x85\u2028\u2029]", text):  # which come back as other ends of lines
            style = '"'
        elif "\n" in text:
            style = "|"
        return self.represent_scalar("tag:yaml.org,2002:str", str(text), style=style)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise BadYaml(_place(event.start_mark), "expected the value itself, got an alias (*name)")
        self.depth += 1
        if self.depth > DEEPEST:
            raise BadYaml(
                _place(event.start_mark), f"expected at most {DEEPEST} levels, one within the other"
            )
        node: Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


_Dumper.add_representer(str, _Dumper.write_text)
_Dumper.add_multi_representer(str, _Dumper.write_text)  # the members of choices
for _tag, _pattern, _first in _RESOLVERS:
    for _class in (_Loader, _Dumper):  # what the one takes for a number, the other puts into quotes
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), list(_first))


def write(values: dict[str, Any]) -> str:
    """Return plain JSON values as YAML, in their order."""
    text: str = yaml.dump(
        values,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        width=LINE_CHARS,
        default_flow_style=False,
    )
    return text


@dataclass(frozen=True, slots=True)
class Document:
    """What one document of a file says, and where: the places of its names and of their values."""

    values: dict[str, Any]
    start: Place
    names: dict[str, Place]
    places: dict[str, Place]


def read(text: str) -> list[Document]:
    """Read the documents of a file, each of which has to be a mapping.

    Raises BadYaml for the first mistake.
    """
    if len(text) > MOST_CHARS:
        raise BadYaml(Place(1, 1), f"expected at most {MOST_CHARS:,} characters, got {len(text):,}")
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        documents = list(_documents(loader))
    except yaml.reader.ReaderError as e:
        before = text[: e.position]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise BadYaml(place, f"expected text, got the character U+{_code(e.character):04X}") from None
    except yaml.MarkedYAMLError as e:
        raise BadYaml(_place(e.problem_mark or e.context_mark), _helped(e)) from None
    if not documents:
        raise BadYaml(Place(1, 1), "expected a profile, lines such as “name: Shop”; got nothing")
    return documents


def _documents(loader: _Loader) -> Iterator[Document]:
    while loader.check_node():
        node = loader.get_node()
        if not isinstance(node, MappingNode):
            place, got = (_place(node.start_mark), _kind(node)) if node else (Place(1, 1), "nothing")
            raise BadYaml(place, f"expected a profile, lines such as “name: Shop”; got {got}")
        values = _mapping(node)
        names = {key.value: _place(key.start_mark) for key, _ in node.value}
        places = {key.value: _place(value.start_mark) for key, value in node.value}
        yield Document(values, _place(node.start_mark), names, places)


def _value(node: Node) -> Any:
    match node:
        case MappingNode():
            return _mapping(node)
        case SequenceNode(tag="tag:yaml.org,2002:seq"):
            return [_value(each) for each in node.value]
        case ScalarNode() if node.tag in _SCALARS:
            try:
                return _SCALARS[node.tag](node.value)
            except (ValueError, KeyError):
                raise BadYaml(_place(node.start_mark), f"expected {node.tag.rpartition(':')[2]}") from None
    raise _tagged(node)


_SCALARS: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:str": str,
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:null": lambda _: None,
    "tag:yaml.org,2002:bool": {"true": True, "false": False}.__getitem__,
}


def _mapping(node: MappingNode) -> dict[str, Any]:
    if node.tag != "tag:yaml.org,2002:map":
        raise _tagged(node)
    values: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, ScalarNode) or key.tag != "tag:yaml.org,2002:str":
            raise BadYaml(_place(key.start_mark), f"expected a name, got {_kind(key)}")
        if key.value in values:
            raise BadYaml(_place(key.start_mark), f"expected each name once, got “{key.value}” again")
        values[key.value] = _value(value)
    return values


def _tagged(node: Node) -> BadYaml:
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    return BadYaml(_place(node.start_mark), f"expected a plain value, got the tag {tag}")


def _kind(node: Node) -> str:
    if isinstance(node, ScalarNode):
        return f"“{node.value[:40]}”" if node.value else "nothing"
    return "a list" if isinstance(node, SequenceNode) else "several values"


def _place(mark: Any) -> Place:
    return Place(mark.line + 1, mark.column + 1) if mark else Place(1, 1)


def _code(character: Any) -> int:
    return character if isinstance(character, int) else ord(character)


def _helped(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or error.context or "expected YAML"
    begun, here = error.context_mark, error.problem_mark
    if begun and here and begun.line != here.line:
        problem = f"{problem} ({error.context}, which begins in line {begun.line + 1})"
    for said, also, help in _HELP:
        if said in problem and also in problem:
            return f"{problem}: {help}"
    return problem
