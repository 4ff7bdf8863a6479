"""Provider settings as form fields, made from the catalogue: a group of fields for each provider there is.

The fields of the chosen provider and the JSON beside them are one set of settings: a field holds a setting
that the catalogue describes, the JSON whatever else is stored.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from django import forms

from calls.profiles.readiness import PARTS
from calls.providers import catalogue
from calls.providers.provider import Provider, Setting


@dataclass(frozen=True, slots=True)
class Group:
    """The fields of one provider's settings; shown if it is the one chosen."""

    provider: str
    label: str
    fields: list[forms.BoundField]
    is_shown: bool


@dataclass(frozen=True, slots=True)
class Service:
    """A kind of provider on the form: which one, the groups of its settings, and the JSON of the others.

    `automatic` is the name of the provider that "auto" stands for now; `others` are the
    kind's other fields.
    """

    kind: str
    title: str
    provider: forms.BoundField
    groups: list[Group]
    settings: forms.BoundField
    automatic: str
    others: list[forms.BoundField]


def field_name(kind: str, provider: str, setting: str) -> str:
    """The name of a setting's field."""
    return f"{kind}-{provider}-{setting}"


def chosen(kind: str, name: str | None) -> Provider | None:
    """The provider whose fields count when `name` is chosen; None if there is none of this name."""
    with suppress(ValueError):
        return catalogue.find(kind, catalogue.resolve(kind, name or ""))
    return None


def add_fields(form: forms.ModelForm) -> None:
    """Give a form the fields of every provider; those of the chosen one hold what is stored."""
    for kind in catalogue.KINDS:
        if f"{kind}_settings" not in form.fields:  # it is shown read-only
            continue
        form.fields[f"{kind}_settings"].show_hidden_initial = False
        stored = form.initial.get(f"{kind}_settings", getattr(form.instance, f"{kind}_settings"))
        current = chosen(
            kind, form.initial.get(f"{kind}_provider", getattr(form.instance, f"{kind}_provider"))
        )
        for provider in catalogue.providers(kind):
            for setting in provider.settings:
                form.fields[field_name(kind, provider.name, setting.name)] = _field(setting)
        form.initial.update(spread(kind, current, stored))


def spread(kind: str, provider: Provider | None, settings: Any) -> dict[str, Any]:
    """What the provider's fields and the JSON hold of the settings, by field."""
    if not isinstance(settings, dict):
        return {f"{kind}_settings": settings}
    known = {setting.name: setting for setting in provider.settings} if provider else {}
    held = {name for name, value in settings.items() if name in known and _holds(known[name], value)}
    fields = {field_name(kind, provider.name, name): settings.get(name) if name in held else None
              for name in known} if provider else {}  # fmt: skip
    return {**fields, f"{kind}_settings": {k: v for k, v in settings.items() if k not in held}}


def gather(form: forms.ModelForm, kind: str, cleaned: dict[str, Any]) -> None:
    """Put the chosen provider's fields into the settings; mistakes in the fields of others are none."""
    provider = chosen(kind, cleaned.get(f"{kind}_provider"))
    for other in catalogue.providers(kind):
        if other != provider:
            for setting in other.settings:
                form.errors.pop(field_name(kind, other.name, setting.name), None)
    name = f"{kind}_settings"
    if name in cleaned and cleaned[name] is None:
        cleaned[name] = {}
    if provider and isinstance(cleaned.get(name), dict):
        fields = {s.name: cleaned.get(field_name(kind, provider.name, s.name)) for s in provider.settings}
        cleaned[name] |= {setting: value for setting, value in fields.items() if value not in (None, "")}


def place_of(form: forms.ModelForm, kind: str, setting: str) -> str:
    """The field in which a stored setting is shown: its own, or the JSON."""
    provider = chosen(kind, getattr(form.instance, f"{kind}_provider"))
    settings: Mapping[str, Any] = getattr(form.instance, f"{kind}_settings")
    for known in provider.settings if provider else ():
        if provider and known.name == setting and _holds(known, settings.get(setting)):
            return field_name(kind, provider.name, setting)
    return f"{kind}_settings"


def services(form: forms.ModelForm) -> list[Service]:
    """The form's providers with their settings, to be shown; none if they cannot be edited."""
    if "stt_provider" not in form.fields:
        return []
    return [_service(form, kind) for kind in catalogue.KINDS]


def _service(form: forms.ModelForm, kind: str) -> Service:
    choice = form[f"{kind}_provider"]
    current = chosen(kind, choice.value())
    groups = [
        Group(
            provider.name,
            provider.label,
            [form[field_name(kind, provider.name, setting.name)] for setting in provider.settings],
            provider == current,
        )
        for provider in catalogue.providers(kind)
    ]
    automatic = catalogue.resolve(kind, catalogue.AUTO)
    others = [form[f"{kind}_fallback"], *([form["speech_speed"]] if kind == "tts" else [])]
    return Service(kind, PARTS[kind], choice, groups, form[f"{kind}_settings"], automatic, others)


def _holds(setting: Setting, value: object) -> bool:
    """Whether a field can show the value: any line of text, else only what the setting takes."""
    if setting.type is str and not setting.choices:
        return isinstance(value, str) and value == value.strip() and "\n" not in value
    return setting.accepts(value)


def _field(setting: Setting) -> forms.Field:
    default = "" if setting.initial is None else str(setting.initial)
    shared: dict[str, Any] = {"required": False, "label": setting.name.replace("_", " ").capitalize()}
    if setting.choices:
        blank = ("", f"Default ({default})" if default else "Default")
        return forms.ChoiceField(
            choices=[blank, *((c, c) for c in setting.choices)], help_text=setting.help, **shared
        )
    hint = {
        "placeholder": default or (f"such as {setting.example}" if setting.example else "the provider's own")
    }
    said = f"{setting.help} {setting.expected[0].upper()}{setting.expected[1:]}."
    if setting.type is str:
        return forms.CharField(widget=forms.TextInput(attrs=hint), help_text=said, max_length=200, **shared)
    bounds: dict[str, Any] = {"min_value": setting.low, "max_value": setting.high}
    if setting.type is int:
        return forms.IntegerField(widget=forms.NumberInput(attrs=hint), help_text=said, **bounds, **shared)
    steps = forms.NumberInput(attrs=hint | {"step": "any"})
    return forms.FloatField(widget=steps, help_text=said, **bounds, **shared)
