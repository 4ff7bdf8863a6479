"""The fields of the admin's forms that Django has no class for, and choices that are not the model's."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from calls.models.storable import is_storable, storable_text


class SettingsField(forms.JSONField):
    """JSON as people type it: whatever is typed, it is stored or explained."""

    def to_python(self, value: Any) -> Any:
        """Return what the JSON says.

        Raises ValidationError for what is no JSON, with line and column, what Python cannot read (nested a
        thousand levels deep, a number of thousands of digits), and what some database cannot store.
        """
        try:
            settings = super().to_python(value)
        except ValidationError as error:
            if isinstance(wrong := error.__context__, json.JSONDecodeError):
                where = f"Enter valid JSON: line {wrong.lineno}, column {wrong.colno}: {wrong.msg}."
                raise ValidationError(where, "invalid") from None
            raise
        except (RecursionError, ValueError):
            raise ValidationError("This is nested too deep, or has too long a number.", "invalid") from None
        if not is_storable(settings):
            raise ValidationError(
                r"This cannot be stored: it has \u0000, half of a character such as \ud800, a number that is "
                "none, or is nested too deep.",
                "invalid",
            )
        return settings

    def bound_data(self, data: Any, initial: Any) -> Any:
        """Return what was typed as it was typed: it may be no JSON, or none that can be shown."""
        return initial if self.disabled else data if data is None else InvalidJSONInput(data)

    def prepare_value(self, value: Any) -> Any:
        """Return the stored settings as text, even if an older version stored what no page can show."""
        return storable_text(super().prepare_value(value))


def offer(form: forms.ModelForm, name: str, choices: list[tuple[str, str]]) -> None:
    """Have a field offer these choices, and the stored one if it is not among them: it stays as it is."""
    if name not in form.fields:  # it is shown read-only
        return
    field = form.fields[name]
    stored = getattr(form.instance, name)
    if stored and stored not in dict(choices):
        choices = [*choices, (stored, f"{stored} (unknown here)")]
    form.fields[name] = forms.ChoiceField(
        choices=choices,
        required=field.required,
        label=field.label,
        help_text=field.help_text,
        initial=field.initial,
    )
