"""Prompt profiles: how the agent behaves on a call, as it is edited."""

import copy
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.core.validators import (
    MaxLengthValidator,
    MaxValueValidator,
    MinValueValidator,
    RegexValidator,
)
from django.db import models
from django.db.models import Exists, OuterRef, Q

from .receptionist import RECEPTIONIST
from .storable import is_storable
from .turntaking import one_at_a_time
from .version import NOTE_CHARS, ProfileVersion

if TYPE_CHECKING:
    from django.contrib.auth.models import User


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
PROVIDER_CHARS = 40

# The form of a version's configuration. It rises when a field changes its meaning, not when one is added.
SCHEMA = 1
NOT_CONFIGURATION = {"id", "name", "slug", "is_default", "is_published", "created_at", "updated_at"}

AUTO_HELP = "Automatic uses the cloud when its keys are set on the server, else the embedded one."
SETTINGS_HELP = "A JSON object handed to the provider, such as {}. Leave {{}} for its defaults."


class PromptProfileQuerySet(models.QuerySet["PromptProfile"]):
    """Which profiles calls may use, and which version a call gets."""

    def usable(self) -> "PromptProfileQuerySet":
        """Return the published profiles that have a version for calls."""
        return self.filter(Exists(ProfileVersion.objects.filter(profile=OuterRef("pk"))), is_published=True)

    def answering(self) -> "PromptProfile | None":
        """Return which of these answers calls that name none: the default, else the oldest usable one."""
        return self.usable().order_by("-is_default", "pk").first()

    def for_call(self, slug: str) -> ProfileVersion | None:
        """Return the current version of the published profile with this slug, or None."""
        versions = ProfileVersion.objects.using(self.db).for_calls()
        return versions.filter(profile__slug=slug.replace("\x00", "")).order_by("-number").first()

    def default(self) -> ProfileVersion:
        """Return the current version of the default profile, else of the oldest published one.

        Raises PromptProfile.DoesNotExist when nothing is published.
        """
        versions = ProfileVersion.objects.using(self.db).for_calls()
        version = versions.order_by("-profile__is_default", "profile_id", "-number").first()
        if version is None:
            raise self.model.DoesNotExist("No prompt profile is published.")
        return version

    def ensure_default(self) -> ProfileVersion | None:
        """Publish the profile "Receptionist" if there is no profile at all; return its version if it did."""
        if self.exists():
            return None
        with one_at_a_time(self.model, self.db):
            profile, created = self.get_or_create(slug="default", defaults=RECEPTIONIST)
            return profile.publish() if created else None


class PromptProfile(models.Model):
    """A profile: its name, and the draft of how the agent behaves on a call.

    Calls use the current version, which `publish` makes of the draft.
    """

    name = models.CharField(max_length=80, help_text="What people call this profile, such as “Sales desk”.")
    slug = models.SlugField(
        max_length=80,
        unique=True,
        help_text="The name RustPBX uses in its server_url: …/ws/rustpbx?profile=sales-desk. "
        "Changing it breaks URLs that use it.",
    )
    is_default = models.BooleanField(
        "default",
        default=False,
        help_text="Used by calls that name no profile, or one that does not exist. "
        "Only one profile is the default: choosing this one takes it from the other.",
    )
    is_published = models.BooleanField(
        "published",
        default=False,
        help_text="Calls may use it. Leave off while you are still writing, and when it is no longer used.",
    )
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
        help_text="Spoken before the agent transfers a call; {destination} stands for whom it is transferred "
        "to. While it rings there, the caller hears nothing.",
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
    created_at = models.DateTimeField("created", auto_now_add=True, help_text="When the profile was created.")
    updated_at = models.DateTimeField("updated", auto_now=True, help_text="When the profile was last saved.")

    objects = PromptProfileQuerySet.as_manager()

    class Meta:
        verbose_name = "profile"
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["is_default"], condition=Q(is_default=True), name="one_default_profile"
            ),
            models.CheckConstraint(
                condition=Q(is_default=False) | Q(is_published=True), name="default_profile_is_published"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save; a profile saved as the default takes that from the one that had it."""
        fields = kwargs.get("update_fields")
        with one_at_a_time(type(self), kwargs.get("using")):
            if self.is_default and (fields is None or "is_default" in fields):
                type(self).objects.filter(is_default=True).exclude(pk=self.pk).update(is_default=False)
            super().save(*args, **kwargs)

    def clean(self) -> None:
        """Raise ValidationError for an unpublished default and settings that are no storable JSON object."""
        errors = {}
        if self.is_default and not self.is_published:
            errors["is_published"] = "The default profile has to be published."
        for name in ("stt_settings", "llm_settings", "tts_settings"):
            # Not a validator of the field: Django skips those for [] and "".
            if not isinstance(settings := getattr(self, name), dict):
                errors[name] = 'Enter a JSON object in braces, such as {"model": "name"} or {}.'
            elif not is_storable(settings):
                errors[name] = "These settings cannot be stored."
        if errors:
            raise ValidationError(errors)

    def validate_constraints(self, exclude: Collection[str] | None = None) -> None:
        """Check the constraints except the single default, which `save` establishes."""
        super().validate_constraints(exclude={*(exclude or ()), "is_default"})

    def publish(self, author: "User | None" = None, note: str = "") -> ProfileVersion:
        """Make the saved draft the version calls use from now on, and return that version.

        A draft that equals the current version publishes no other. `note` is cut to 200 characters. Raises
        PromptProfile.DoesNotExist for a profile that is not saved.
        """
        database = self._state.db
        # Of two who publish at once, each gets a number of its own.
        with one_at_a_time(PromptProfile, database):
            saved = PromptProfile.objects.using(database).get(pk=self.pk)
            if not saved.is_published:
                PromptProfile.objects.using(database).filter(pk=self.pk).update(is_published=True)
            self.is_published = True
            current = saved.versions.order_by("-number").first()
            configuration = saved.configuration()
            if current is not None and current.in_full() == configuration:
                return current
            return saved.versions.create(
                number=current.number + 1 if current else 1,
                configuration=configuration,
                author=author,
                note=note[:NOTE_CHARS],
            )

    def configuration(self) -> dict[str, Any]:
        """Return the draft as a JSON-safe copy: its fields by name, and the number of this form, `schema`."""
        names = [f.attname for f in self._meta.concrete_fields if f.attname not in NOT_CONFIGURATION]
        return {"schema": SCHEMA, **{name: copy.deepcopy(getattr(self, name)) for name in names}}
