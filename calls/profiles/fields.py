"""What a profile's configuration consists of, and how its values are written for people."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from django.db import models

from calls.models import PromptProfile
from calls.models.behaviour import FIELDS
from calls.profiles.languages import name_of
from calls.providers import catalogue

UNSET = "not set"


def of_configuration() -> dict[str, "models.Field[Any, Any]"]:
    """The fields of a configuration by name, in the order in which a profile has them."""
    return {field.name: field for field in PromptProfile._meta.concrete_fields if field.name in FIELDS}


def in_order(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration in the order of the fields; what they do not know comes last."""
    known = [name for name in ("schema", *of_configuration()) if name in configuration]
    return {name: configuration[name] for name in (*known, *(configuration.keys() - {*known}))}


def is_text(name: str) -> bool:
    """Whether the field is one of prose, and not a setting."""
    return isinstance(of_configuration().get(name), models.TextField)


def settings_of(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each setting as its name, its label and its value for people.

    What a provider takes is a setting each, named such as "llm_settings.temperature". A name that profiles do
    not have any more is its own label.
    """
    fields = of_configuration()
    for name, value in in_order(configuration).items():
        if name == "schema" or is_text(name):
            continue
        field = fields.get(name)
        label = _label(name, field)
        if isinstance(value, Mapping):
            whose = label.removesuffix(" settings")
            yield from ((f"{name}.{key}", f"{whose}: {key}", written(each)) for key, each in value.items())
        else:
            yield name, label, _chosen(name, field, value)


def texts_of(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield each text as its name, its label and itself."""
    for name, field in of_configuration().items():
        if is_text(name) and name in configuration:
            yield name, _label(name, field), str(configuration[name])


def written(value: Any) -> str:
    """Return a value as people read it, in a line."""
    match value:
        case None | "":
            return UNSET
        case bool():
            return "yes" if value else "no"
        case str():
            return value
        case [*items] if items and all(isinstance(item, str) for item in items):
            return ", ".join(items)
        case [] | {}:
            return UNSET
        case _:
            return json.dumps(value, ensure_ascii=False)


def _chosen(name: str, field: "models.Field[Any, Any] | None", value: Any) -> str:
    """A value by the name that people have for it, or with its unit."""
    kind = name.removesuffix("_provider").removesuffix("_fallback")
    if name == "language":
        return name_of(str(value))
    choices = catalogue.choices(kind) if kind in catalogue.KINDS else field.flatchoices if field else []
    known = {str(key): str(label) for key, label in choices or []}
    unit = next((unit for unit in ("s", "ms") if name.endswith(f"_{unit}")), "")
    return known.get(str(value)) or f"{written(value)} {unit}".strip()


def _label(name: str, field: "models.Field[Any, Any] | None") -> str:
    label = str(field.verbose_name) if field else name
    return label[:1].upper() + label[1:]
