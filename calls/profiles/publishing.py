"""Publishing a profile, if it would work in a call."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from calls.models import ProfileVersion, PromptProfile
from calls.models.turntaking import one_at_a_time
from calls.profiles.readiness import Finding, errors, readiness
from calls.providers import accounts

if TYPE_CHECKING:
    from django.contrib.auth.models import User


class NotReady(Exception):
    """A draft would not work in a call; `findings` say why, each with its field."""

    def __init__(self, findings: Sequence[Finding]) -> None:
        super().__init__("; ".join(f"{finding.part}: {finding.message}" for finding in findings))
        self.findings = findings


def publish(profile: PromptProfile, author: "User | None" = None, note: str = "") -> ProfileVersion:
    """Publish the saved draft: the next call uses it. Returns the version, which may be the one there was.

    Raises NotReady, and nothing changes, if calls would fail.
    """
    accounts.refresh()
    with one_at_a_time(PromptProfile):
        draft = PromptProfile.objects.get(pk=profile.pk)
        if found := errors(readiness(draft.configuration())):
            raise NotReady(found)
        return profile.publish(author, note)
