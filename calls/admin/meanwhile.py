"""Two who edit the same profile: the second sees what the first has saved meanwhile, and loses nothing typed.

The form carries what the profile was when it was opened. What only the other has changed is taken over into
the form; where both have changed something, the form keeps the second's, and the other's is shown beside it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model
from django.http import QueryDict

from calls.admin import services
from calls.models import PromptProfile
from calls.models.storable import storable_json
from calls.providers import catalogue

# What is changed as one thing, by the field that stands for it; every other field stands for itself.
TOGETHER = {f"{kind}_provider": (f"{kind}_provider", f"{kind}_settings") for kind in catalogue.KINDS}
IDENTITY = ("name", "slug", "is_default", "split_version", "split_percent")
ARCHIVED = "archived_at"  # no field of the form; only whether it is set counts


@dataclass(frozen=True, slots=True)
class Change:
    """What another has changed of a field, and whether the form has something else there (`is_contested`)."""

    field: str
    label: str
    theirs: str
    is_contested: bool


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """Who has saved the profile since the form was opened ("" if that is not known), and what was changed."""

    who: str
    changes: list[Change]


def seen(profile: PromptProfile) -> str:
    """What a form carries of the profile as it is shown."""
    values = {name: _stored(profile, name) for name in _fields(profile)}
    last = _log(profile).order_by("-pk").values_list("pk", flat=True).first() or 0
    return json.dumps({"revision": profile.revision, "log": last, "values": values})


def compare(form: forms.ModelForm, cleaned: Mapping[str, Any]) -> Meanwhile | None:
    """What others have changed since the form was opened, if anything. Its instance is as stored."""
    stored: PromptProfile = form.instance
    try:
        then = json.loads(form.data.get("seen") or "null")
        if not stored.pk or then is None or then["revision"] == stored.revision:
            return None
        base, log = dict(then["values"]), int(then["log"])
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return None  # not of our form: it says nothing of what was seen
    changes, now = [], _values(stored)
    for field in _units(stored):
        names = TOGETHER.get(field, (field,))
        before, theirs = ([values.get(name) for name in names] for values in (base, now))
        mine = [_plain(cleaned[name]) if name in cleaned else None for name in names]
        if theirs not in (before, mine):
            is_typed = field in cleaned
            label = str(form.fields[field].label) if field in form.fields else "Archived"
            shown = "\n".join(_shown(value) for value in theirs if value not in ({}, None))
            changes.append(Change(field, label, shown, is_contested=is_typed and mine != before))
    return Meanwhile(_who(stored, log), changes) if changes else None


def take_over(form: forms.ModelForm, meanwhile: Meanwhile) -> QueryDict:
    """The form's data with what only the other has changed, as if it had been opened now."""
    data = QueryDict(mutable=True)
    data.update(form.data)
    profile: PromptProfile = form.instance
    for change in meanwhile.changes:
        if change.is_contested or change.field == ARCHIVED:
            continue
        if change.field in TOGETHER:
            kind = change.field.removesuffix("_provider")
            provider = getattr(profile, change.field)
            settings = getattr(profile, f"{kind}_settings")
            _set(data, change.field, provider)
            for name, value in services.spread(kind, services.chosen(kind, provider), settings).items():
                _set(data, name, json.dumps(value) if name.endswith("_settings") else value)
        else:
            _set(data, change.field, _stored(profile, change.field))
    data["seen"] = seen(profile)
    return data


def _set(data: QueryDict, name: str, value: Any) -> None:
    """Have a field hold a value, as a browser would send it."""
    if value is False:
        data.pop(name, None)
    else:
        data[name] = "on" if value is True else "" if value is None else str(value)


def _fields(profile: PromptProfile) -> list[str]:
    return [*IDENTITY, ARCHIVED, *(name for name in profile.configuration() if name != "schema")]


def _units(profile: PromptProfile) -> list[str]:
    together = {name for names in TOGETHER.values() for name in names[1:]}
    return [name for name in _fields(profile) if name not in together]


def _stored(profile: PromptProfile, name: str) -> Any:
    value = getattr(profile, name)
    return value is not None if name == ARCHIVED else _plain(value)


def _plain(value: Any) -> Any:
    return value.pk if isinstance(value, Model) else storable_json(value)


def _values(profile: PromptProfile) -> dict[str, Any]:
    return {name: _stored(profile, name) for name in _fields(profile)}


def _shown(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{name}: {each}" for name, each in value.items())
        case _:
            return str(value)


def _log(profile: PromptProfile) -> Any:
    kind = ContentType.objects.get_for_model(PromptProfile)
    return LogEntry.objects.filter(content_type=kind, object_id=str(profile.pk))


def _who(profile: PromptProfile, log: int) -> str:
    entries = _log(profile).filter(pk__gt=log).select_related("user").order_by("pk")
    return " and ".join(dict.fromkeys(entry.user.get_username() for entry in entries))
