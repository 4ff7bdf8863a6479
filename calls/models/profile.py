"""Prompt profiles: a name, the draft of how the agent behaves, and what becomes of it."""

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from .behaviour import Behaviour
from .receptionist import RECEPTIONIST
from .split import Split
from .turntaking import one_at_a_time
from .version import NOTE_CHARS, ProfileVersion

if TYPE_CHECKING:
    from django.contrib.auth.models import User

NAME_CHARS = 80


class PromptProfileQuerySet(models.QuerySet["PromptProfile"]):
    """Which profiles calls may use, and which version a call gets."""

    def usable(self) -> "PromptProfileQuerySet":
        """Return the published profiles that have a version for calls."""
        return self.filter(Exists(ProfileVersion.objects.filter(profile=OuterRef("pk"))), is_published=True)

    def in_use(self) -> "PromptProfileQuerySet":
        """Return the profiles that are not archived."""
        return self.filter(archived_at=None)

    def archived(self) -> "PromptProfileQuerySet":
        """Return the profiles that are put away."""
        return self.exclude(archived_at=None)

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

    def free_slug(self, wish: str) -> str:
        """Return the slug wished for, or the first of wish-2, wish-3 and so on that is not taken."""
        room = NAME_CHARS - 4
        taken = {*self.filter(slug__startswith=wish[:room]).values_list("slug", flat=True)}
        candidates = (wish[:room] + f"-{number}" for number in range(2, len(taken) + 3))
        return next(slug for slug in (wish, *candidates) if slug not in taken)

    def ensure_default(self) -> ProfileVersion | None:
        """Publish the profile "Receptionist" if there is no profile at all; return its version if it did."""
        if self.exists():
            return None
        with one_at_a_time(self.model, self.db):
            profile, created = self.get_or_create(slug="default", defaults=RECEPTIONIST)
            return profile.publish() if created else None


class PromptProfile(Behaviour, Split):
    """A profile: its name, and the draft of how the agent behaves on a call.

    Calls use the current version, which `publish` makes of the draft.
    """

    name = models.CharField(
        max_length=NAME_CHARS, help_text="What people call this profile, such as “Sales desk”."
    )
    slug = models.SlugField(
        max_length=NAME_CHARS,
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
        help_text="Calls may use its newest version. Publishing turns it on, archiving off.",
    )
    archived_at = models.DateTimeField(
        "archived",
        null=True,
        blank=True,
        editable=False,
        help_text="When it was put away; empty: in use.",
    )
    revision = models.PositiveIntegerField(
        default=0, editable=False, help_text="Rises with every change, so that nobody overwrites another's."
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
            models.CheckConstraint(
                condition=Q(archived_at=None) | Q(is_published=False),
                name="archived_is_not_published",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save, as the next revision; a profile saved as the default takes that from the one that had it."""
        fields = kwargs.get("update_fields")
        with one_at_a_time(type(self), database := kwargs.get("using")):
            profiles = PromptProfile.objects.using(database or self._state.db)
            if self.is_default and (fields is None or "is_default" in fields):
                others = profiles.filter(is_default=True).exclude(pk=self.pk)
                others.update(is_default=False, revision=F("revision") + 1)
            stored = profiles.filter(pk=self.pk).values_list("revision", flat=True).first()
            self.revision = (stored or 0) + 1
            if fields is not None:
                kwargs["update_fields"] = {*fields, "revision"}
            super().save(*args, **kwargs)

    def clean(self) -> None:
        """Raise ValidationError for an unpublished default and settings that are no storable JSON object."""
        super().clean()
        if self.is_default and not self.is_published:
            raise ValidationError({"is_default": "The default has to be published: publish this one first."})

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
                saved.is_published, saved.archived_at = True, None
                saved.save(update_fields=["is_published", "archived_at", "updated_at"])
            self.is_published, self.archived_at, self.revision = True, None, saved.revision
            current = saved.current_version
            if current is not None and not saved.has_changes:
                return current
            return saved.versions.create(
                number=current.number + 1 if current else 1,
                configuration=saved.configuration(),
                author=author,
                note=note[:NOTE_CHARS],
            )

    def restore(self, version: ProfileVersion) -> None:
        """Save what a version of this profile said as the draft. Calls go on with the current version."""
        self.configure(version.in_full())
        self.save()

    def duplicate(self) -> "PromptProfile":
        """Save a copy of the draft as a profile of its own, which is neither published nor the default."""
        with one_at_a_time(PromptProfile, self._state.db):
            slug = PromptProfile.objects.using(self._state.db).free_slug(self.slug)
            copy = PromptProfile(name=f"Copy of {self.name}"[:NAME_CHARS], slug=slug)
            copy.configure(self.configuration())
            copy.save(using=self._state.db)
            return copy

    def archive(self) -> None:
        """Put the profile away: no call uses it, and it is no longer the default. Its versions stay."""
        self.is_default = self.is_published = False
        self.archived_at = timezone.now()
        self.save(update_fields=["is_default", "is_published", "archived_at", "updated_at"])

    def unarchive(self) -> None:
        """Take the profile out again, as a draft. Publishing lets calls use it."""
        self.archived_at = None
        self.save(update_fields=["archived_at", "updated_at"])

    @property
    def current_version(self) -> ProfileVersion | None:
        """The newest version, which calls use if the profile is published; None before the first."""
        return self.versions.select_related("author").order_by("-number").first()

    @property
    def has_changes(self) -> bool:
        """Whether the draft differs from the newest version, or there is none yet."""
        current = self.current_version
        return current is None or self.differs_from(current)

    def differs_from(self, version: ProfileVersion) -> bool:
        """Whether the draft says something else than a version."""
        return version.in_full() != self.configuration()
