"""What went wrong in calls: which events are failures, which calls had some, and the same ones together."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Subquery
from django.db.models.functions import Coalesce

from .session import CallSessionQuerySet
from .transcript import CallEvent, CallEventQuerySet, EventKind

FAILURES = (EventKind.ERROR, EventKind.PROVIDER_FAILURE)


@dataclass(frozen=True)
class Failure:
    """Failures of a call that say the same; `first_ms` and `last_ms` count from the call's start."""

    provider: str  # empty if it was not a provider's
    message: str
    count: int
    first_ms: int
    last_ms: int


def with_error_count(calls: CallSessionQuerySet) -> CallSessionQuerySet:
    """Return `calls`, each with the number of its failures as `error_count`."""
    counted = _failures_of_call().order_by().values("session_id").annotate(number=Count("pk"))
    return calls.annotate(error_count=Coalesce(Subquery(counted.values("number")), 0))


def having_errors(calls: CallSessionQuerySet) -> CallSessionQuerySet:
    """Return those of `calls` in which something failed."""
    return calls.filter(Exists(_failures_of_call()))


def together(events: Iterable[CallEvent]) -> list[Failure]:
    """Return the failures among a call's `events`, those with one message and provider as one.

    The events come in the order of their time, and the failures leave in that of their first.
    """
    alike: dict[tuple[str, str], list[CallEvent]] = {}
    for event in events:
        if event.kind in FAILURES:
            alike.setdefault((_provider(event), event.message), []).append(event)
    return [
        Failure(provider, message, len(same), same[0].ms, same[-1].ms)
        for (provider, message), same in alike.items()
    ]


def _failures_of_call() -> CallEventQuerySet:
    """Return the failures of the call that the outer query is at."""
    return CallEvent.objects.filter(session_id=OuterRef("pk"), kind__in=FAILURES)


def _provider(event: CallEvent) -> str:
    """Return the provider that failed; empty if none did."""
    return str(event.detail.get("provider", "")) if isinstance(event.detail, dict) else ""
