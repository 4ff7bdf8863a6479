"""Finding calls by what was said in them, and by room, caller and callee.

Both databases have an index of folded words (`calls.models.search_index`) and find the same. There are two
ways to ask:

- `found`: by the index, for what is said seldom. It costs what there is to find, whatever else is stored.
- `looked_through`: call by call in the order of the list, which ends as soon as a page is full, for what is
  said often. It costs what lies between two hits.
"""

import re
from collections.abc import Iterable
from typing import Any, TypeVar
from uuid import UUID

from django.db import models
from django.db.models import OuterRef, Q, Subquery

from .query import Query, names_folded
from .search_index import Indexed
from .storable import storable_text
from .transcript import Turn

Calls = TypeVar("Calls", bound=models.QuerySet[Any])

models.TextField.register_lookup(Indexed)


def id_begins(beginning: str) -> Q:
    """The condition that a call's id begins so, which the index of the ids serves."""
    digits = beginning.replace("-", "").lower()
    if not re.fullmatch("[0-9a-f]{1,32}", digits):
        return Q(pk__in=[])
    return Q(pk__gte=UUID(digits.ljust(32, "0")), pk__lte=UUID(digits.ljust(32, "f")))


class CallNamesQuerySet(models.QuerySet["CallNames"]):
    """Writing what calls are called."""

    def write(self, session_id: UUID, names: Iterable[str]) -> None:
        """Store what the call is found by: its room, caller and callee."""
        text = names_folded(storable_text(name) for name in names)
        self.bulk_create(
            [self.model(session_id=session_id, folded=text)],
            update_conflicts=True,
            unique_fields=["session"],
            update_fields=["folded"],
        )


class CallNames(models.Model):
    """What a call is found by besides what was said: room, caller and callee, as they are searched.

    A table of its own, as SQLite's index needs whole numbers for rows and a call's id is none.
    """

    session = models.OneToOneField("calls.CallSession", on_delete=models.CASCADE, related_name="names")
    folded = models.TextField(editable=False, help_text="Room, caller and callee as they are searched.")

    objects = CallNamesQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.folded.strip()


def found(query: Query) -> Q:
    """Return the condition on calls that the query finds them, by the index."""
    if not query.terms:
        return Q(pk__in=[])
    turns = _indexed(Turn.objects.order_by(), query).values("session_id")
    names = _indexed(CallNames.objects.all(), query.for_names()).values("session_id")
    return Q(pk__in=turns.union(names, all=True))


def looked_through(calls: Calls, query: Query) -> Calls:
    """Return those of `calls` that the query finds, each call looked at by itself."""
    # Not Exists: PostgreSQL would rather read all the turns there are than those of a few calls.
    in_names = Q(query.for_names().contained("names__folded"))
    return calls.annotate(hit_id=first_hit(query)).filter(Q(hit_id__isnull=False) | in_names)


def first_hit(query: Query) -> Subquery:
    """Return the id of a call's first turn that the query finds; None if it is found by its names only."""
    turns = Turn.objects.filter(query.contained("folded"), session_id=OuterRef("pk"))
    return Subquery(turns.order_by("index").values("pk")[:1])


def _indexed(rows: models.QuerySet[Any], query: Query) -> models.QuerySet[Any]:
    """Return the rows with folded text that the query finds."""
    rows = rows.filter(folded__indexed=query)
    return rows.filter(query.contained("folded")) if query.has_phrases else rows
