"""Every URL of the configuration, found by walking it: a page is tried by being added."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver
from django.urls.resolvers import RegexPattern, RoutePattern

_PARAMETER = re.compile(r"<(?:(?P<kind>[^>:]+):)?(?P<name>\w+)>")
_GROUP = re.compile(r"\(\?P<(\w+)>[^)]*\)")


@dataclass(frozen=True)
class Address:
    """A URL with holes: `/calls/{id}/`, and the converter of each hole ("uuid", "str", "regex", …)."""

    template: str
    holes: Mapping[str, str]

    def filled(self, values: Mapping[str, str]) -> str:
        """The path with these values in the holes."""
        return self.template.format_map(values)


def addresses() -> list[Address]:
    """All of them, in the order of the configuration."""
    return list(_walk(get_resolver().url_patterns, "/", {}))


def _walk(patterns: list[Any], prefix: str, holes: dict[str, str]) -> Iterator[Address]:
    for pattern in patterns:
        route, own = _template(pattern.pattern)
        template, all_holes = prefix + route, holes | own
        if isinstance(pattern, URLResolver):
            yield from _walk(pattern.url_patterns, template, all_holes)
        elif isinstance(pattern, URLPattern):
            yield Address(template, all_holes)


def _template(pattern: RoutePattern | RegexPattern) -> tuple[str, dict[str, str]]:
    route = str(pattern)
    if isinstance(pattern, RoutePattern):
        holes = {found["name"]: found["kind"] or "str" for found in _PARAMETER.finditer(route)}
        return _PARAMETER.sub(r"{\g<name>}", route), holes
    holes = dict.fromkeys(_GROUP.findall(route), "regex")
    return _GROUP.sub(r"{\1}", route).strip("^$").replace("\\Z", ""), holes
