"""The versions of a profile: what was published, and calls use."""

from datetime import datetime, timedelta
from typing import Any, NoReturn

from django.conf import settings
from django.db import models

NOTE_CHARS = 200


class VersionIsImmutable(TypeError):
    """A published version was to be changed or deleted."""


class ProfileVersionQuerySet(models.QuerySet["ProfileVersion"]):
    """Finding versions. They are never updated or deleted, except that unused ones go with their profile."""

    def for_calls(self) -> "ProfileVersionQuerySet":
        """Return the versions of the profiles calls may use, with their profiles."""
        return self.filter(profile__is_published=True).select_related("profile__split_version")

    def current(self) -> "ProfileVersionQuerySet":
        """Return the newest version of each profile calls may use."""
        newest = models.Max("profile__versions__number")
        return self.for_calls().alias(newest=newest).filter(number=models.F("newest"))

    def update(self, **_values: Any) -> NoReturn:
        """Raise VersionIsImmutable."""
        raise VersionIsImmutable("a published version cannot be changed; publish the next one")

    def delete(self) -> NoReturn:
        """Raise VersionIsImmutable."""
        raise VersionIsImmutable("a published version cannot be deleted")

    update.alters_data = True  # type: ignore[attr-defined]  # for templates, as in Django
    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class ProfileVersion(models.Model):
    """A profile as it was published. It never changes."""

    profile = models.ForeignKey(
        "calls.PromptProfile",
        on_delete=models.CASCADE,  # of a profile no call has used; CallSession protects the others
        related_name="versions",
        db_index=False,  # version_number_in_profile below starts with it
    )
    number = models.PositiveIntegerField(help_text="The version's number in its profile, from 1.")
    configuration = models.JSONField(help_text="What the profile said, by field; `schema` numbers the form.")
    author = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="+",
        help_text="Who published it; empty for the server, and once the user is deleted.",
    )
    note = models.CharField(
        max_length=NOTE_CHARS, blank=True, help_text="What changed, in the author's words."
    )
    published_at = models.DateTimeField("published", auto_now_add=True)

    objects = ProfileVersionQuerySet.as_manager()

    class Meta:
        ordering = ["profile_id", "-number"]
        default_permissions = ["view"]  # append-only
        constraints = [
            # Also serves a profile's versions in order, and the current one.
            models.UniqueConstraint(fields=["profile", "number"], name="version_number_in_profile"),
        ]

    def __str__(self) -> str:
        return f"{self.profile.name}, version {self.number}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Save a new version. Raises VersionIsImmutable for one that is stored."""
        if not self._state.adding:
            raise VersionIsImmutable("a published version cannot be changed; publish the next one")
        super().save(*args, **kwargs)

    def delete(self, using: str | None = None, keep_parents: bool = False) -> NoReturn:
        """Raise VersionIsImmutable."""
        raise VersionIsImmutable("a published version cannot be deleted")

    def kept_until(self, started_at: datetime) -> datetime | None:
        """Return when a call that began then may be erased; None: never."""
        days = self.configuration.get("retention_days")
        return started_at + timedelta(days=days) if days else None

    def in_full(self) -> dict[str, Any]:
        """Return the configuration in today's form, with the defaults of the fields added since."""
        blank = type(self.profile)()
        return blank.configuration() | _in_form_2(self.configuration)


def _in_form_2(configuration: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration in the form whose texts are templates: in the first one, one had a {place}."""
    if configuration.get("schema") != 1:
        return configuration
    changed = {"schema": 2}
    if announcement := configuration.get("transfer_announcement"):
        changed["transfer_announcement"] = announcement.replace("{destination}", "{{ destination }}")
    return configuration | changed
