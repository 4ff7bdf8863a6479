"""Nodes: one row for each boot of a server process. Its calls are its own while its lease lasts."""

from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from uuid import UUID

from django.db import models
from django.db.models.functions import Now

from .storable import columns

LEASE = timedelta(seconds=30)  # without being seen: three renewals have failed by then
KEPT = timedelta(days=7)
LATELY = timedelta(hours=1)  # a call refused since then is news


class NodeState(models.TextChoices):
    """Where a server process is in its life, as calls.process.State says it."""

    STARTING = "starting", "Starting"
    ACCEPTING = "accepting", "Accepting calls"
    DRAINING = "draining", "Draining"
    STOPPED = "stopped", "Stopped"


@dataclass(frozen=True, slots=True)
class NodeRow:
    """A server process as it is now; `capacity` is how many calls it takes at once.

    `refused` are the calls that it had no room for since its start, the last one at `refused_at`.
    """

    id: UUID
    name: str
    address: str
    capacity: int | None
    calls: int
    state: str
    refused: int = 0
    refused_at: datetime | None = None


class NodeQuerySet(models.QuerySet["Node"]):
    """Renewing leases, and finding those that lapsed. All times are the database's, which nodes share."""

    def renew(self, row: NodeRow) -> None:
        """Store that the node is there, as it is now: its lease begins anew. One statement."""
        node = self.model(**columns(self.model, row), seen_at=Now())
        self.bulk_create(
            [node],
            update_conflicts=True,
            unique_fields=["id"],
            update_fields=[*(field.name for field in fields(row) if field.name != "id"), "seen_at"],
        )

    def stop(self, id: UUID) -> bool:
        """Store that the node stopped as it should, without calls; return whether it was known."""
        return self.filter(pk=id).update(state=NodeState.STOPPED, calls=0, seen_at=Now()) == 1

    def gone(self) -> "NodeQuerySet":
        """Return the nodes that stopped or were not seen for 30 s: nobody runs their calls."""
        return self.filter(models.Q(state=NodeState.STOPPED) | models.Q(seen_at__lt=Now() - LEASE))

    def present(self) -> "NodeQuerySet":
        """Return the nodes that run."""
        return self.exclude(pk__in=self.gone())

    def wanting(self) -> "NodeQuerySet":
        """Return the nodes that run and do not take every call: draining, full, or lately full."""
        full = models.Q(calls__gte=models.F("capacity")) | models.Q(refused_at__gt=Now() - LATELY)
        return self.present().filter(models.Q(state=NodeState.DRAINING) | full)

    def prune(self) -> int:
        """Delete nodes that were not seen for a week and have no calls; return how many those were."""
        return self.filter(seen_at__lt=Now() - KEPT, sessions__isnull=True).delete()[0]


class Node(models.Model):
    """A boot of a server process."""

    id = models.UUIDField(primary_key=True, editable=False, help_text="Made anew at each start.")
    name = models.CharField("node", max_length=255, help_text="NODE_NAME of the process.")
    address = models.CharField(max_length=255, blank=True, help_text="Where it listens.")
    capacity = models.PositiveIntegerField(
        null=True, blank=True, help_text="How many calls it takes at once; empty: as many as come."
    )
    calls = models.PositiveIntegerField(default=0, help_text="How many calls it runs.")
    state = models.CharField(max_length=10, choices=NodeState, default=NodeState.STARTING)
    refused = models.PositiveIntegerField(
        default=0, help_text="How many calls it had no room for since it started."
    )
    refused_at = models.DateTimeField("last refused", null=True, blank=True)
    started_at = models.DateTimeField("started", auto_now_add=True)
    seen_at = models.DateTimeField("last seen", help_text="When it last renewed its lease of 30 s.")

    objects = NodeQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at"]
        default_permissions = ["view"]  # the processes write it

    def __str__(self) -> str:
        return self.name

    @property
    def is_full(self) -> bool:
        """Whether it runs as many calls as it takes."""
        return self.capacity is not None and self.calls >= self.capacity
