"""Which profile answers a call: the one it names, else the first rule's, else the default one.

It is read from the database within a second; if that fails, what was read last is used.
"""

import asyncio
import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone

from calls.database import DatabaseThreads
from calls.models import Asked, ProfileVersion, PromptProfile, Rule
from calls.profiles.in_force import CallConfig, wanted
from calls.providers import accounts, catalogue

logger = logging.getLogger(__name__)

READ_S = 1.0

_threads: DatabaseThreads | None = None
_remembered: dict[str, "Known"] = {}  # by slug; "" is the default one
_rules: list[Rule] = []  # as they were read last


class NoProfile(Exception):
    """There is no profile to use: none is published, or the database is away and none was read before."""


@dataclass(frozen=True, slots=True)
class ChosenProfile:
    """A profile's version as a call uses it.

    `found` is False if what was asked for was not found: the profile, and this is the default one; or its
    version, and this is the current one. Without a version these are unsaved values that somebody tries
    out, of the profile `draft_of` or of a new one.
    """

    version_id: int | None
    number: int
    slug: str
    name: str
    configuration: dict[str, Any]
    found: bool = True
    draft_of: int | None = None

    @property
    def draft(self) -> dict[str, Any] | None:
        """The unsaved values; None of a version."""
        return self.configuration if self.version_id is None else None


@dataclass(frozen=True, slots=True)
class Known:
    """A profile for calls: its current version, and perhaps a second one that answers `percent` of them."""

    current: ChosenProfile
    second: ChosenProfile | None = None
    percent: int = 0

    def draw(self) -> ChosenProfile:
        """One of the two, by chance."""
        by_chance = random.random() * 100  # noqa: S311  nothing secret depends on it
        return self.second if self.second and by_chance < self.percent else self.current


async def choose(
    slug: str = "", *, version: int | None = None, caller: str = "", callee: str = ""
) -> ChosenProfile:
    """The version that answers a call that comes now.

    If the database does not answer within a second, what was read last is returned.

    Args:
        slug: of the profile that the call names; "" if it names none.
        version: the number of the version of that profile that the call names, if any.
        caller, callee: who calls whom, for the rules.

    Raises:
        NoProfile: there is no profile to use.
    """
    asked = Asked(caller, callee, timezone.now())
    try:
        async with asyncio.timeout(READ_S):
            return await _database().run(lambda: _read(slug, version, asked))
    except PromptProfile.DoesNotExist:
        raise NoProfile("no profile is published") from None
    except Exception as e:  # whatever ails the database, calls go on with what is known
        logger.error("profile %r could not be read: %s: %s", slug, type(e).__name__, e)
        return await asyncio.to_thread(_recall, slug, version, asked)


def choose_now(slug: str, asked: Asked) -> ChosenProfile:
    """As `choose`, for a thread that may use the database.

    Raises PromptProfile.DoesNotExist if nothing is published, and what the database raises.
    """
    return _read(slug, None, asked)


def first_match(rules: Iterable[Rule], asked: Asked) -> Rule | None:
    """The first of these rules that matches the call."""
    for rule in rules:
        try:
            if not rule.why_not(asked):
                return rule
        except Exception:  # of one rule, which the others do not suffer from
            logger.exception("the rule %r cannot be used", rule.name)
    return None


def any_embedded() -> bool:
    """Read whether any published profile uses an embedded model, and remember all that calls choose from.

    For a thread that may use the database.
    """
    accounts.refresh()
    published = [_known(version) for version in ProfileVersion.objects.current()]
    _remembered.update({each.current.slug: each for each in published})
    if (answering := PromptProfile.objects.answering()) and answering.slug in _remembered:
        _remembered[""] = _remembered[answering.slug]
    _rules[:] = Rule.objects.in_force()
    configs = [CallConfig.from_profile(each.current.configuration) for each in published]
    return any(wanted(config, kind) == catalogue.LOCAL for config in configs for kind in catalogue.KINDS)


def is_any_known() -> bool:
    """Whether a profile has been read that calls can use."""
    return bool(_remembered)


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


def _read(slug: str, number: int | None, asked: Asked) -> ChosenProfile:
    """Read the rules if need be, the profile's version, and the accounts of the providers."""
    accounts.refresh()
    if not slug:
        _rules[:] = Rule.objects.in_force()
    ruled = slug or _ruled(asked)
    current = PromptProfile.objects.for_call(ruled) if ruled else None
    known = _known(current or PromptProfile.objects.default())
    _remembered[ruled if current else ""] = known
    if slug and number is not None:
        pinned = ProfileVersion.objects.for_calls().filter(profile__slug=slug, number=number).first()
        return _chosen(pinned) if pinned else replace(known.current, found=False)
    return replace(known.draw(), found=current is not None or not slug)


def _recall(slug: str, number: int | None, asked: Asked) -> ChosenProfile:
    """The same, of what was read last. Raises NoProfile."""
    known = _remembered.get(slug or _ruled(asked))
    found = known is not None or not slug
    if known is None:
        known = _remembered.get("")
    if known is None:
        raise NoProfile("the profiles cannot be read")
    if slug and number is not None:
        both = [known.current, *([known.second] if known.second else [])]
        pinned = [each for each in both if each.number == number]
        return replace(pinned[0] if pinned else known.current, found=found and bool(pinned))
    return replace(known.draw(), found=found)


def _ruled(asked: Asked) -> str:
    """The slug of the profile that the rules choose, "" for the default one."""
    rule = first_match(tuple(_rules), asked)
    return rule.profile.slug if rule else ""


def _known(version: ProfileVersion) -> Known:
    second = version.profile.split_version
    if second is None or second.pk == version.pk:
        return Known(_chosen(version))
    return Known(_chosen(version), _chosen(second), version.profile.split_percent)


def _chosen(version: ProfileVersion) -> ChosenProfile:
    profile = version.profile
    return ChosenProfile(version.pk, version.number, profile.slug, profile.name, version.in_full())
