"""How a profile stands: its current version, its draft, and whether it would work in a call."""

from collections.abc import Iterable
from dataclasses import dataclass

from calls.models import ProfileVersion, PromptProfile
from calls.profiles.readiness import ERROR, WARNING, Finding, readiness, worst
from calls.providers import accounts


@dataclass(frozen=True, slots=True)
class Standing:
    """A profile, its newest version (None before the first), and what there is to say of it.

    `findings` are of what calls use, of an unpublished profile of its draft; `of_draft` are the draft's.
    """

    profile: PromptProfile
    version: ProfileVersion | None
    has_changes: bool
    answers_unnamed: bool
    findings: list[Finding]
    of_draft: list[Finding]

    @property
    def level(self) -> str:
        """The worst of what there is to say: "ready", "warning" or "error"."""
        return worst(self.findings)

    @property
    def draft_fails(self) -> bool:
        """Whether the draft, and not what calls use, would fail in a call."""
        return self.has_changes and worst(self.of_draft) == ERROR and self.level != ERROR

    @property
    def problems(self) -> list[Finding]:
        """What is not as it should be."""
        return [finding for finding in self.findings if finding.level in (WARNING, ERROR)]


def of(profiles: Iterable[PromptProfile]) -> list[Standing]:
    """How these profiles stand, in their order. The keys that are set are read anew."""
    accounts.refresh()
    profiles = list(profiles)
    newest = ProfileVersion.objects.newest().select_related("author").filter(profile__in=profiles)
    versions = {version.profile_id: version for version in newest}
    answering = PromptProfile.objects.answering()
    return [_standing(profile, versions.get(profile.pk), answering) for profile in profiles]


def _standing(
    profile: PromptProfile, version: ProfileVersion | None, answering: PromptProfile | None
) -> Standing:
    draft = profile.configuration()
    if version is not None:
        version.profile = profile
    published = version.in_full() if version is not None else {}
    of_draft = readiness(draft)
    return Standing(
        profile,
        version,
        has_changes=published != draft,
        answers_unnamed=answering == profile,
        findings=readiness(published) if version and profile.is_published else of_draft,
        of_draft=of_draft,
    )
