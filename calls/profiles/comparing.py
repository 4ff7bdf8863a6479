"""What is compared of a profile: one of its versions, or its draft, by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from calls.models import ProfileVersion, PromptProfile

DRAFT = "draft"
MOST_DIGITS = 9


@dataclass(frozen=True, slots=True)
class Side:
    """A version's configuration, or the draft's, whose `version` is None; its name in addresses is `name`."""

    name: str
    configuration: Mapping[str, Any]
    version: ProfileVersion | None = None

    @property
    def label(self) -> str:
        """What people call it."""
        return f"Version {self.name}" if self.version else "Draft"


def side(profile: PromptProfile, name: str) -> Side | None:
    """The version with this number, or for "draft" the draft; None if there is none."""
    if name == DRAFT:
        return Side(DRAFT, profile.configuration())
    if not (name.isascii() and name.isdigit() and len(name) <= MOST_DIGITS):
        return None
    version = profile.versions.select_related("author").filter(number=int(name)).first()
    return Side(str(version.number), version.in_full(), version) if version else None


def usual_pair(profile: PromptProfile) -> tuple[str, str]:
    """What one most often wants to compare: what the draft changes, else what the newest version changed.

    Two empty names if there is nothing to compare.
    """
    newest = profile.current_version
    if newest is None:
        return "", ""
    if profile.has_changes:
        return str(newest.number), DRAFT
    return (str(newest.number - 1), str(newest.number)) if newest.number > 1 else ("", "")
