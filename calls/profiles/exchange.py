"""Profiles as YAML files: written exactly, read with care, without secrets.

A file says what a profile is called and how it behaves, and not whether calls may use it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models

from calls.models import PromptProfile
from calls.models.behaviour import SCHEMA
from calls.models.storable import is_storable
from calls.models.turntaking import one_at_a_time
from calls.profiles import fields, notation
from calls.profiles.notation import BadYaml, Document
from calls.providers import accounts, catalogue
from calls.redaction import holds_secret, remember

IDENTITY = ("name", "slug")
_HEADING = "# A profile of the voice agent, to be read in by its admin or by `manage.py profiles import`.\n"


class HoldsSecret(ValueError):
    """A profile holds what looks like a key or a password, which no file of ours may."""


@dataclass(frozen=True, slots=True)
class Written:
    """A profile as a file says it: all it has to be is there, what the file leaves out as its default."""

    name: str
    slug: str
    configuration: Mapping[str, Any]


def write(profile: PromptProfile, configuration: Mapping[str, Any]) -> str:
    """Return a profile with one of its configurations, the draft or a version's, as YAML.

    Raises:
        HoldsSecret: naming the field.
    """
    values = {"name": profile.name, "slug": profile.slug, **fields.in_order(configuration)}
    _learn_secrets()
    for name, text in _leaves("", values):
        if holds_secret(text, name):
            raise HoldsSecret(f"{name} holds what looks like a key or a password. Take it out first.")
    return _HEADING + notation.write(values)


def read(text: str) -> list[Written]:
    """Read the profiles of a file.

    What would merely fail in a call is no mistake here, as it is none of a draft.

    Raises:
        BadYaml: for the first mistake; it says where, and what was expected.
    """
    _learn_secrets()
    found: list[Written] = []
    for document in notation.read(text):
        written = _written(document)
        if written.slug in {other.slug for other in found}:
            place = document.places["slug"]
            raise BadYaml(place, f"expected each profile once, got “{written.slug}” again")
        found.append(written)
    return found


def stored(written: Written) -> PromptProfile:
    """The profile that this would be the draft of; one that is not saved if there is none."""
    return PromptProfile.objects.filter(slug=written.slug).first() or PromptProfile(slug=written.slug)


def store(written: Written) -> PromptProfile:
    """Save what was read as the profile's draft, a new one's if there is none. Nothing is published."""
    with one_at_a_time(PromptProfile):
        profile = stored(written)
        profile.configure(dict(written.configuration))
        profile.name = written.name
        profile.save()
    return profile


def _written(document: Document) -> Written:
    """What a document says, checked like a form. Raises BadYaml."""
    known = fields.of_configuration()
    for name, place in document.names.items():
        if name not in {*IDENTITY, "schema", *known}:
            near = get_close_matches(name, [*IDENTITY, *known], 1)
            hint = f"did you mean {near[0]}?" if near else f"expected {', '.join([*IDENTITY, *known])}"
            raise BadYaml(place, f"there is no field “{name}”: {hint}")
    schema = document.values.get("schema", SCHEMA)
    if schema != SCHEMA:
        raise BadYaml(document.places["schema"], f"expected the form {SCHEMA}, got {schema}")
    profile = PromptProfile()
    for name, field in ({each: PromptProfile._meta.get_field(each) for each in IDENTITY} | known).items():
        if name in document.values:
            value = document.values[name]
            _check(document, name, field, value)
            setattr(profile, name, float(value) if isinstance(field, models.FloatField) else value)
    _validate(document, profile)
    return Written(profile.name, profile.slug, profile.configuration())


def _check(document: Document, name: str, field: Any, value: Any) -> None:
    """Raise BadYaml for a value of another kind than the field's, one that cannot be stored, and a secret."""
    place = document.places[name]
    for kind, expected, is_right in _KINDS:
        if isinstance(field, kind):
            if not is_right(field, value):
                raise BadYaml(place, f"{name}: expected {expected}, got {_shown(value)}")
            break
    choices = dict(field.flatchoices or ())
    if choices and value not in choices:
        raise BadYaml(place, f"{name}: expected one of {', '.join(choices)}, got {_shown(value)}")
    if not is_storable(value):
        raise BadYaml(place, f"{name}: expected what a database can store: no NUL, no number that is none")
    for inner, text in _leaves(name, value):
        if holds_secret(text, inner):
            hint = "keys belong into the admin's provider accounts, or on the server"
            raise BadYaml(place, f"{inner} holds what looks like a key or a password: {hint}")


def _validate(document: Document, profile: PromptProfile) -> None:
    """Raise BadYaml for what the model refuses, at the field's place."""
    try:
        profile.clean_fields(exclude=["is_default", "is_published"])
    except ValidationError as e:
        name, errors = next(iter(e.error_dict.items()))
        if name not in document.values:
            raise BadYaml(document.start, f"the field {name} is missing") from None
        raise BadYaml(document.places[name], f"{name}: {' '.join(errors[0].messages)}") from None


def _is_whole(_field: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(_field: Any, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_like_default(field: Any, value: Any) -> bool:
    return isinstance(value, type(field.get_default()))


# Kinds of fields, what is expected for one, and whether a value is that.
_KINDS: list[tuple[Any, str, Any]] = [
    (models.BooleanField, "true or false", lambda _, value: isinstance(value, bool)),
    (models.FloatField, "a number", _is_number),
    (models.IntegerField, "a whole number", _is_whole),
    (models.JSONField, "values of a kind with its default, such as {} or []", _is_like_default),
    ((models.CharField, models.TextField), "text", lambda _, value: isinstance(value, str)),
]


def _shown(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case dict():
            return "several values"
        case list():
            return "a list"
        case str():
            return f"the text “{value[:40]}”"
    return str(value)[:40].lower()


def _leaves(name: str, value: Any) -> Iterator[tuple[str, str]]:
    """Every text within a value, with its name there, such as "llm_settings.model"; names are texts, too."""
    match value:
        case str():
            yield name, value
        case Mapping():
            for key, each in value.items():
                inner = f"{name}.{key}" if name else key
                yield name, key
                yield from _leaves(inner, each)
        case list():
            for each in value:
                yield from _leaves(name, each)


def _learn_secrets() -> None:
    """Have the keys that are set known as what they are, so that they are found in texts."""
    accounts.refresh()
    for kind in catalogue.KINDS:
        for provider in catalogue.providers(kind):
            if provider.key:
                accounts.account_of(provider.name, provider.key)
    for secret in (settings.SECRET_KEY, *settings.STREAM_TOKENS):
        remember(secret)
