"""How the agent behaves on a call, field by field: what a profile's draft is, and its versions hold."""

import copy
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxLengthValidator,
    MaxValueValidator,
    MinValueValidator,
    RegexValidator,
)
from django.db import models

from .manners import PROVIDER_CHARS, Manners
from .receptionist import RECEPTIONIST
from .storable import is_storable


class PromptPolicy(models.TextChoices):
    """What a system prompt sent by the client does to the profile's."""

    REPLACE = "replace", "Replaces the profile's"
    APPEND = "append", "Is added after the profile's"
    IGNORE = "ignore", "Is ignored"


class EndOfTurn(models.TextChoices):
    """What tells that the caller has finished speaking."""

    SMART = "smart", "Smart: judged from how the caller speaks"
    SILENCE = "silence", "Silence: a fixed pause"


# The providers are those of the catalogue, whose names no column lists.
AUTO = "auto"

# The form of a version's configuration. It rises when a field changes its meaning, not when one is added.
SCHEMA = 2

AUTO_HELP = "Automatic uses the cloud when its keys are set on the server, else the embedded one."
SETTINGS_HELP = "A JSON object handed to the provider, such as {}. Leave {{}} for its defaults."


class Behaviour(Manners):
    """What the agent says on a call, who its providers are, and when it takes its turn."""

    system_prompt = models.TextField(
        validators=[MaxLengthValidator(20_000)],
        help_text="Who the agent is and how it talks. Ask for short, spoken sentences; "
        "the embedded language model is small and follows a few plain sentences best.",
    )
    greeting = models.TextField(
        blank=True,
        validators=[MaxLengthValidator(1000)],
        help_text="Spoken as soon as the call starts. Empty: the agent waits for the caller to speak.",
    )
    apology = models.TextField(
        default=RECEPTIONIST["apology"],
        validators=[MaxLengthValidator(1000)],
        help_text="Spoken when a provider fails in the middle of the call, which then goes on.",
    )
    farewell = models.TextField(
        blank=True,
        default=RECEPTIONIST["farewell"],
        validators=[MaxLengthValidator(1000)],
        help_text="Spoken before the agent ends a call, as when that has reached its longest duration. "
        "Empty: the call just ends.",
    )
    transfer_announcement = models.TextField(
        blank=True,
        default=RECEPTIONIST["transfer_announcement"],
        validators=[MaxLengthValidator(1000)],
        help_text="Spoken before the agent transfers a call; {{ destination }} stands for whom it is "
        "transferred to. While it rings there, the caller hears nothing.",
    )
    language = models.CharField(
        max_length=20,
        default="en",
        validators=[RegexValidator(r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", "Enter a tag such as en or pt-BR.")],
        help_text="The language spoken, such as en or pt-BR. The embedded providers know English only.",
    )
    stt_provider = models.CharField(
        "speech-to-text",
        max_length=PROVIDER_CHARS,
        default=AUTO,
        help_text=f"Turns the caller's speech into text. {AUTO_HELP}",
    )
    llm_provider = models.CharField(
        "language model",
        max_length=PROVIDER_CHARS,
        default=AUTO,
        help_text=f"Writes the replies. {AUTO_HELP}",
    )
    tts_provider = models.CharField(
        "text-to-speech",
        max_length=PROVIDER_CHARS,
        default=AUTO,
        help_text=f"Speaks the replies. {AUTO_HELP}",
    )
    stt_settings = models.JSONField(
        "speech-to-text settings",
        default=dict,
        blank=True,
        help_text=SETTINGS_HELP.format('{"model": "ink-whisper"}'),
    )
    llm_settings = models.JSONField(
        "language model settings",
        default=dict,
        blank=True,
        help_text=SETTINGS_HELP.format('{"temperature": 0.7}'),
    )
    tts_settings = models.JSONField(
        "text-to-speech settings",
        default=dict,
        blank=True,
        help_text=SETTINGS_HELP.format('{"voice": "…"}'),
    )
    prompt_policy = models.CharField(
        "client's system prompt",
        max_length=10,
        choices=PromptPolicy,
        default=PromptPolicy.APPEND,
        help_text="What to do with a system prompt that RustPBX sends.",
    )
    use_client_settings = models.BooleanField(
        "use the client's provider settings",
        default=False,
        help_text="RustPBX sends the same built-in provider settings with every call; they are recorded and "
        "otherwise ignored. Turn on only for a client that sends settings of its own.",
    )
    allow_interruptions = models.BooleanField(
        default=True, help_text="The agent stops speaking when the caller starts to."
    )
    end_of_turn = models.CharField(
        max_length=10,
        choices=EndOfTurn,
        default=EndOfTurn.SMART,
        help_text="How the agent knows that the caller has finished and it may answer.",
    )
    end_of_turn_silence_s = models.FloatField(
        "end-of-turn silence",
        default=0.8,
        validators=[MinValueValidator(0.2), MaxValueValidator(5)],
        help_text="Seconds, 0.2 to 5: the pause that ends the caller's turn when that is judged by silence.",
    )
    max_duration_s = models.PositiveIntegerField(
        "longest duration",
        default=3600,
        validators=[MinValueValidator(10), MaxValueValidator(86_400)],
        help_text="Seconds, 10 to 86400: the agent then says its farewell and ends the call.",
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Raise ValidationError for settings that are no storable JSON object."""
        super().clean()
        errors = {}
        for name in ("stt_settings", "llm_settings", "tts_settings"):
            # Not a validator of the field: Django skips those for [] and "".
            if not isinstance(settings := getattr(self, name), dict):
                errors[name] = 'Enter a JSON object in braces, such as {"model": "name"} or {}.'
            elif not is_storable(settings):
                errors[name] = "These settings cannot be stored."
        if errors:
            raise ValidationError(errors)

    def configuration(self) -> dict[str, Any]:
        """Return a JSON-safe copy: the fields by name, and the number of this form, `schema`."""
        return {"schema": SCHEMA, **{name: copy.deepcopy(getattr(self, name)) for name in FIELDS}}

    def configure(self, configuration: dict[str, Any]) -> None:
        """Set the fields to what `configuration` returned, now or in an older form; nothing is saved."""
        for name in FIELDS & configuration.keys():
            setattr(self, name, copy.deepcopy(configuration[name]))


FIELDS = {field.name for field in Behaviour._meta.local_fields}
