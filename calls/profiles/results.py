"""How calls went: lately for each profile, and for each of its versions.

Nothing here costs more the more calls are stored, but for counting, for which an index does.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from django.db.models import Case, Count, Value, When
from django.utils import timezone

from calls.models import CallSession, ProfileVersion, PromptProfile, Speaker, Turn
from calls.models.session_finding import HAS_ERRORS

DAYS = 7
LOOKED_AT = 300  # calls of a version, the newest; they have thousands of answers
FEW = 20  # calls, of which a comparison says nothing
_FAILED = Case(When(HAS_ERRORS, then=Value(1)), default=Value(0))


@dataclass(frozen=True, slots=True)
class Lately:
    """The calls of a profile's last days: how many, how many had errors, and the median answer (ms)."""

    calls: int = 0
    failed: int = 0
    median_ms: int | None = None

    @property
    def failed_percent(self) -> float:
        """The share of the calls with errors."""
        return 100 * self.failed / self.calls if self.calls else 0.0


def since() -> date:
    """The first of the last days, of which today is the last."""
    return timezone.localdate() - timedelta(days=DAYS - 1)


def lately(profiles: Iterable[PromptProfile]) -> dict[int, Lately]:
    """The last days of each of the profiles by its key. The median is that of the calls' medians."""
    calls = (
        CallSession.objects.real()
        .filter(profile__in=list(profiles))
        .started_between(since(), None)
        .order_by()
    )
    waits: dict[int, Counter[int | None]] = {}
    failed: Counter[int] = Counter()
    groups = calls.values_list("profile_id", "median_latency_ms", _FAILED)
    for profile, ms, has_failed, count in groups.annotate(n=Count("*")):
        waits.setdefault(profile, Counter())[ms] += count
        failed[profile] += count if has_failed else 0
    return {
        profile: Lately(counts.total(), failed[profile], percentile(counts, 50))
        for profile, counts in waits.items()
    }


@dataclass(frozen=True, slots=True)
class Results:
    """How the calls of a version went: how many there are, and figures of the newest, `looked_at` many.

    Times are in ms and seconds; None where there is nothing to measure.
    """

    version: ProfileVersion
    calls: int
    looked_at: int
    failed_percent: float | None
    p50_ms: int | None
    p95_ms: int | None
    interruptions: float | None
    length_s: int | None

    @property
    def is_telling(self) -> bool:
        """Whether there are calls enough to compare."""
        return self.looked_at >= FEW


def calls_of(versions: Iterable[ProfileVersion]) -> dict[int, int]:
    """How many calls each of these versions answered, by its key; of none there is no number."""
    calls = CallSession.objects.real().filter(version__in=list(versions)).order_by()
    return dict(calls.values_list("version_id").annotate(n=Count("*")))


def of_versions(versions: Iterable[ProfileVersion]) -> list[Results]:
    """How the calls of each of these versions went, in their order; for a page of them."""
    versions = list(versions)
    counts = calls_of(versions)
    return [_of_version(version, counts.get(version.pk, 0)) for version in versions]


def _of_version(version: ProfileVersion, calls: int) -> Results:
    newest = CallSession.objects.real().filter(version=version).order_by("-started_at")[:LOOKED_AT]
    facts = list(newest.values_list(_FAILED, "started_at", "ended_at")) if calls else []
    failed = sum(has_failed for has_failed, _, _ in facts)
    lengths = Counter(round((ended - started).total_seconds()) for _, started, ended in facts if ended)
    waits: Counter[int | None] = Counter()
    interruptions = 0
    if calls:
        turns = Turn.objects.filter(session_id__in=newest.values("pk"), speaker=Speaker.AGENT).order_by()
        for ms, interrupted, count in turns.values_list("total_ms", "interrupted").annotate(n=Count("*")):
            waits[ms] += count
            interruptions += count if interrupted else 0
    return Results(
        version,
        calls,
        len(facts),
        failed_percent=100 * failed / len(facts) if facts else None,
        p50_ms=percentile(waits, 50),
        p95_ms=percentile(waits, 95),
        interruptions=interruptions / len(facts) if facts else None,
        length_s=percentile(lengths, 50),
    )


def percentile(counts: Counter[int | None] | Counter[int], percent: int) -> int | None:
    """The least value that `percent` of all do not exceed, of values by how often each came; None is none."""
    values = sorted((value, count) for value, count in counts.items() if value is not None)
    wanted = sum(count for _, count in values) * percent / 100
    seen = 0
    for value, count in values:
        seen += count
        if seen >= wanted:
            return value
    return None
