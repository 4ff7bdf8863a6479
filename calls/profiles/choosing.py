"""Reads the profile of a call from the database, within a second; uses the one read last if that fails."""

import asyncio
import logging
from dataclasses import dataclass, replace
from typing import Any

from calls.database import DatabaseThreads
from calls.models import ProfileVersion, PromptProfile
from calls.profiles.in_force import CallConfig, wanted
from calls.providers import accounts, catalogue

logger = logging.getLogger(__name__)

READ_S = 1.0

_threads: DatabaseThreads | None = None
_remembered: dict[str, "ChosenProfile"] = {}


class NoProfile(Exception):
    """There is no profile to use: none is published, or the database is away and none was read before."""


@dataclass(frozen=True, slots=True)
class ChosenProfile:
    """A profile's version as a call uses it.

    `found` is False if the profile asked for was not found and this is the default one. Without a
    version these are unsaved values that somebody tries out, of the profile `draft_of` or of a new one.
    """

    version_id: int | None
    slug: str
    name: str
    configuration: dict[str, Any]
    found: bool = True
    draft_of: int | None = None

    @property
    def draft(self) -> dict[str, Any] | None:
        """The unsaved values; None of a version."""
        return self.configuration if self.version_id is None else None


async def choose(slug: str) -> ChosenProfile:
    """The current version of the published profile with this slug, else of the default one ("" means that).

    If the database does not answer within a second, what was read last is returned.

    Raises:
        NoProfile: there is no profile to use.
    """
    try:
        async with asyncio.timeout(READ_S):
            chosen = await _database().run(lambda: _read(slug))
    except PromptProfile.DoesNotExist:
        raise NoProfile("no profile is published") from None
    except Exception as e:  # whatever ails the database, calls go on with what is known
        logger.error("profile %r could not be read: %s: %s", slug, type(e).__name__, e)
        if slug in _remembered:
            return _remembered[slug]
        if "" not in _remembered:
            raise NoProfile("the profiles cannot be read") from e
        return replace(_remembered[""], found=False)
    if chosen.found:
        _remembered[slug] = chosen
    else:
        _remembered[""] = replace(chosen, found=True)
    return chosen


def any_embedded() -> bool:
    """Read whether any published profile uses an embedded model, and remember all of them.

    For a thread that may use the database.
    """
    accounts.refresh()
    published = [_chosen(version) for version in ProfileVersion.objects.current()]
    _remembered.update({each.slug: each for each in published})
    configs = [CallConfig.from_profile(each.configuration) for each in published]
    return any(wanted(config, kind) == catalogue.LOCAL for config in configs for kind in catalogue.KINDS)


def close() -> None:
    """Close the threads that read profiles. `choose` starts others if it is called again."""
    global _threads  # noqa: PLW0603  see _database()
    if _threads is not None:
        _threads.close()
        _threads = None


def _database() -> DatabaseThreads:
    global _threads  # noqa: PLW0603  one pair for the process
    if _threads is None:
        _threads = DatabaseThreads("profiles", 2)
    return _threads


def _read(slug: str) -> ChosenProfile:
    """Read the profile's version, and the accounts of the providers."""
    accounts.refresh()
    asked = PromptProfile.objects.for_call(slug) if slug else None
    version = asked or PromptProfile.objects.default()
    return replace(_chosen(version), found=asked is not None or not slug)


def _chosen(version: ProfileVersion) -> ChosenProfile:
    profile = version.profile
    return ChosenProfile(version.pk, profile.slug, profile.name, version.in_full())
