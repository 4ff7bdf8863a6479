"""A page of the list of calls: the newest that the filters and the search let through, older ones by link.

Nothing here costs more the more calls are stored. There is no number of a page, as counting up to it would
take reading up to it: a page begins at a call, and its address says at which.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Q

from calls.models import CallSession, CallSessionQuerySet, Turn
from calls.models.query import Query
from calls.models.search import first_hit, found, looked_through
from calls.pages.excerpt import excerpt

PAGE_SIZE = 25
MOST_COUNTED = 1000  # calls; beyond them "more than" is said
# Calls looked at one by one before the index is asked: what is said in more than one call of eighty fills a
# page by then, and what is said less often the index finds fast.
LOOKED_AT = 2000
NEWEST_FIRST = ("-started_at", "-id")
OLDEST_FIRST = ("started_at", "id")


@dataclass(frozen=True)
class Place:
    """Where a call stands in the list."""

    started_at: datetime
    id: UUID

    def __str__(self) -> str:
        """Return the place as it stands in an address."""
        return f"{self.started_at.isoformat()}_{self.id.hex}"

    @classmethod
    def of(cls, text: str) -> "Place | None":
        """Return the place that an address names; None for what is none."""
        time, _, id = text.partition("_")
        try:
            # A blank for the plus of a zone is what comes of copying an address by hand.
            started_at = datetime.fromisoformat(time.replace(" ", "+"))
            # In UTC: databases do not know every zone that Python does.
            return cls(started_at.astimezone(UTC), UUID(id)) if started_at.tzinfo else None
        except (ValueError, OverflowError):
            return None

    def older(self, *, itself: bool = False) -> Q:
        """Return the condition on calls that they come after this place."""
        here = Q(started_at=self.started_at)
        # Not as "earlier, or as early and": databases use an index for the first part only as it is.
        return Q(started_at__lte=self.started_at) & ~(
            here & (Q(id__gt=self.id) if itself else Q(id__gte=self.id))
        )

    def newer(self, *, itself: bool = False) -> Q:
        """Return the condition on calls that they come before this place."""
        here = Q(started_at=self.started_at)
        return Q(started_at__gte=self.started_at) & ~(
            here & (Q(id__lt=self.id) if itself else Q(id__lte=self.id))
        )


@dataclass(frozen=True)
class Page:
    """A page of calls, newest first, each with what was found in it as `hit` (None without a turn)."""

    calls: list[CallSession]
    newer: Place | None  # the page before ends before this place
    older: Place | None  # the page after begins after this place
    count: int | None  # of all the calls; None if that is not known
    more: bool  # there are more than `count`

    def __iter__(self) -> Any:
        return iter(self.calls)


EMPTY = Page([], None, None, 0, False)


def page_of(calls: CallSessionQuerySet, query: Query | None, *, before: str = "", after: str = "") -> Page:
    """Return the page of those `calls` that `query` finds, all of them for None.

    `before` and `after` are places: the page with the next older or the next newer ones; the newest page
    without them, and where there are none.
    """
    older_than, newer_than = Place.of(before), Place.of(after)
    if newer_than and not older_than:
        ids, _ = _ids(calls.filter(newer_than.newer()), query, OLDEST_FIRST, PAGE_SIZE + 1)
        if len(ids) > PAGE_SIZE:
            shown = _shown(calls, query, ids[:PAGE_SIZE])
            return Page(shown, _place(shown[0]), _place(shown[-1]), None, False)
        # Else the beginning is near: the newest page is full and shows the same calls.
    first = older_than is None
    rest = calls.filter(older_than.older()) if older_than else calls
    ids, all_known = _ids(rest, query, NEWEST_FIRST, MOST_COUNTED + 1 if first else PAGE_SIZE + 1)
    if not ids and not first:
        return page_of(calls, query)
    shown = _shown(calls, query, ids[:PAGE_SIZE])
    return Page(
        shown,
        newer=None if first else _place(shown[0]),
        older=_place(shown[-1]) if len(ids) > PAGE_SIZE else None,
        count=min(len(ids), MOST_COUNTED) if first else None,
        more=len(ids) > MOST_COUNTED or not all_known,
    )


def _ids(
    calls: CallSessionQuerySet, query: Query | None, order: tuple[str, ...], most: int
) -> tuple[list[UUID], bool]:
    """Return the ids of the first `most` calls that the query finds, and whether those are all."""
    if query is None:
        return _first(calls, order, most)
    near = calls
    end = next(iter(calls.order_by(*order).values_list("started_at", "id")[LOOKED_AT - 1 : LOOKED_AT]), None)
    if end:
        place = Place(*end)
        near = calls.filter(place.newer(itself=True) if order == NEWEST_FIRST else place.older(itself=True))
    ids, complete = _first(looked_through(near, query), order, most)
    if end is None:
        return ids, complete
    if len(ids) > PAGE_SIZE:
        return ids, False
    return _first(calls.filter(found(query)), order, most)


def _first(calls: CallSessionQuerySet, order: tuple[str, ...], most: int) -> tuple[list[UUID], bool]:
    """Return the ids of the first `most` calls, and whether those are all."""
    ids = list(calls.order_by(*order).values_list("pk", flat=True)[:most])
    return ids, len(ids) < most


def _shown(calls: CallSessionQuerySet, query: Query | None, ids: list[UUID]) -> list[CallSession]:
    """Return the calls with these ids, newest first, with their hits."""
    rows = calls.filter(pk__in=ids).order_by(*NEWEST_FIRST)
    if query is None:
        return list(rows)
    annotated: Any = rows.annotate(hit_id=first_hit(query))
    turns = Turn.objects.filter(pk__in=[call.hit_id for call in annotated if call.hit_id])
    hits = {turn.session_id: excerpt(turn, query) for turn in turns}
    shown: list[CallSession] = list(annotated)
    for call in shown:
        call.hit = hits.get(call.id)
    return shown


def _place(call: CallSession) -> Place:
    return Place(call.started_at, call.id)
