"""Call sessions: one row per call, from its start to its end."""

import statistics
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models, transaction
from django.db.models import Q
from django.urls import reverse
from django.utils import timezone

from . import search
from .profile import PromptProfile
from .query import parse
from .storable import storable_json, storable_text
from .transcript import Turn

# No call may last longer, so an older active one has lost its server, whichever that was.
ABANDONED_AFTER = timedelta(hours=24)


class CallStatus(models.TextChoices):
    """Where a call is in its life."""

    ACTIVE = "active", "Active"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    INTERRUPTED = "interrupted", "Interrupted"


class EndReason(models.TextChoices):
    """Why a call ended."""

    DISCONNECT = "disconnect", "Client hung up"
    CLOSED = "closed", "Connection closed"
    IDLE = "idle", "No message for 30 s"
    MAX_DURATION = "max_duration", "Longest duration reached"
    SHUTDOWN = "shutdown", "Server stopped"
    ABUSE = "abuse", "Client misbehaved"
    ERROR = "error", "Error"
    CRASH = "crash", "Server died"


class ClientGeneration(models.TextChoices):
    """What kind of client called, told from how it streams."""

    SEED = "seed", "RustPBX of October 2025"
    NEW = "new", "RustPBX of November 2025 or later"
    FREE = "free", "Free-running"
    JSON = "json", "JSON audio"


class CallSessionQuerySet(models.QuerySet["CallSession"]):
    """Starting, ending and finding calls."""

    def start(
        self,
        *,
        id: UUID,
        room_id: str,
        profile_id: int | None,
        config: dict[str, Any],
        client_configs: dict[str, Any],
        caller: str,
        callee: str,
        metadata: dict[str, Any],
        started_at: datetime,
        remote_address: str,
        node: str,
    ) -> "CallSession":
        """Create the active call `id`, or return it as it is if it exists.

        Texts are cut to their columns. A profile deleted meanwhile leaves the call without one.
        """
        defaults = {
            **self._description(room_id, caller, callee, metadata, client_configs),
            "profile": PromptProfile.objects.filter(pk=profile_id).first() if profile_id else None,
            "config": storable_json(config),
            "started_at": started_at,
            "remote_address": self._cut("remote_address", remote_address),
            "node": self._cut("node", node),
        }
        session, created = self.get_or_create(pk=id, defaults=defaults)
        if created:
            search.CallNames.objects.using(self.db).write(id, (room_id, caller, callee))
        return session

    def describe(
        self,
        id: UUID,
        *,
        room_id: str,
        caller: str,
        callee: str,
        metadata: dict[str, Any],
        client_configs: dict[str, Any],
    ) -> bool:
        """Store what the client told of the call `id` after it had begun; return whether the call exists.

        Texts are cut to their columns.
        """
        described = self._description(room_id, caller, callee, metadata, client_configs)
        if exists := self.filter(pk=id).update(**described) == 1:
            search.CallNames.objects.using(self.db).write(id, (room_id, caller, callee))
        return exists

    def finish(
        self,
        id: UUID,
        *,
        status: str,
        end_reason: str,
        ended_at: datetime,
        audio_in_s: float,
        audio_out_s: float,
        client_generation: str,
        error: str = "",
    ) -> bool:
        """End the call `id` if it is active; return whether this call of the method ended it.

        Audio in seconds. Turn count and latencies are taken from the turns stored so far. Raises ValueError
        for a status that does not end a call.
        """
        if status not in CallStatus.values or status == CallStatus.ACTIVE:
            raise ValueError(f"a call ends as completed, failed or interrupted, not as {status!r}")
        if end_reason not in EndReason.values:
            raise ValueError(f"unknown end reason {end_reason!r}")
        with transaction.atomic(using=self.db):
            turns = Turn.objects.using(self.db).filter(session_id=id)
            ended = (
                self.active()
                .filter(pk=id)
                .update(
                    status=status,
                    end_reason=end_reason,
                    ended_at=ended_at,
                    audio_in_s=audio_in_s,
                    audio_out_s=audio_out_s,
                    client_generation=self._cut("client_generation", client_generation),
                    error=storable_text(error),
                    **_turn_totals(turns.values_list("latency", flat=True)),
                )
            )
        return ended == 1

    def close_orphans(self, node: str) -> int:
        """Close the calls that a dead server left active and return how many those were.

        They are this `node`'s, and any that are older than the longest possible call. Each ends with its
        last turn, or where it began.
        """
        abandoned = Q(node=node) | Q(started_at__lt=timezone.now() - ABANDONED_AFTER)
        closed = 0
        for session in self.active().filter(abandoned):
            with transaction.atomic(using=self.db):
                turns = list(session.turns.all())
                last_ms = max((turn.end_ms or turn.start_ms for turn in turns), default=0)
                closed += (
                    self.active()
                    .filter(pk=session.pk)
                    .update(
                        status=CallStatus.INTERRUPTED,
                        end_reason=EndReason.CRASH,
                        ended_at=session.started_at + timedelta(milliseconds=last_ms),
                        **_turn_totals(turn.latency for turn in turns),
                    )
                )
        return closed

    def active(self) -> "CallSessionQuerySet":
        """Return the calls going on now."""
        return self.filter(status=CallStatus.ACTIVE)

    def for_analyst(self, user: AbstractBaseUser | AnonymousUser) -> "CallSessionQuerySet":
        """Return the calls `user` may see: all with the permission to view calls, else none."""
        allowed = getattr(user, "has_perm", lambda _: False)("calls.view_callsession")
        return self.all() if allowed else self.none()

    def search(self, text: str) -> "CallSessionQuerySet":
        """Return the calls that `text` finds, as `calls.models.query` reads it; all of them for blank text.

        It has to be in one final turn, or in room, caller and callee together.
        """
        text = storable_text(text)
        return self.filter(search.found(parse(text))) if text.strip() else self.all()

    def started_between(self, from_date: date | None, to_date: date | None) -> "CallSessionQuerySet":
        """Return the calls that started on or after `from_date` and on or before `to_date`.

        Days of the current time zone; None leaves that side open.
        """
        calls = self.all()
        if from_date:
            calls = calls.filter(started_at__gte=_midnight(from_date))
        if to_date:
            calls = calls.filter(started_at__lt=_midnight(to_date + timedelta(days=1)))
        return calls

    def _description(
        self,
        room_id: str,
        caller: str,
        callee: str,
        metadata: dict[str, Any],
        client_configs: dict[str, Any],
    ) -> dict[str, Any]:
        """Return what a client tells of its call, by column and as the columns take it."""
        return {
            "room_id": self._cut("room_id", room_id),
            "caller": self._cut("caller", caller),
            "callee": self._cut("callee", callee),
            "metadata": storable_json(metadata),
            "client_configs": storable_json(client_configs),
        }

    def _cut(self, name: str, text: str) -> str:
        """Return `text` as long as the column `name` takes."""
        return storable_text(text)[: getattr(self.model._meta.get_field(name), "max_length", None)]


def _midnight(day: date) -> datetime:
    """Return the start of `day` in the current time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))


def _turn_totals(latencies: Iterable[Any]) -> dict[str, int | None]:
    """Return turn count, median and worst turn latency (ms) of a call from its turns' latency parts."""
    parts = list(latencies)
    values = [value for part in parts if (value := part.get("turn_latency")) is not None]
    return {
        "turn_count": len(parts),
        "median_latency_ms": round(statistics.median(values)) if values else None,
        "worst_latency_ms": round(max(values)) if values else None,
    }


class CallSession(models.Model):
    """One call: who, when, how it was configured and how it went."""

    id = models.UUIDField(
        primary_key=True, editable=False, help_text="Given by the server when the call starts."
    )
    room_id = models.CharField("room", max_length=255, blank=True, help_text="RustPBX's name for the call.")
    profile = models.ForeignKey(
        PromptProfile,
        null=True,
        blank=True,
        on_delete=models.SET_NULL,
        related_name="sessions",
        db_index=False,  # session_by_profile below serves it
        help_text="The profile used; empty once that is deleted.",
    )
    config = models.JSONField(
        default=dict, help_text="The configuration used, as it was when the call started."
    )
    client_configs = models.JSONField(
        default=dict, help_text="The provider settings RustPBX sent, used only if the profile says so."
    )
    caller = models.CharField(max_length=255, blank=True, help_text="Who called, as RustPBX said.")
    callee = models.CharField(max_length=255, blank=True, help_text="Who was called, as RustPBX said.")
    metadata = models.JSONField(default=dict, help_text="Whatever else the client told about the call.")
    status = models.CharField(max_length=12, choices=CallStatus, default=CallStatus.ACTIVE)
    started_at = models.DateTimeField("started")
    ended_at = models.DateTimeField("ended", null=True, blank=True)
    end_reason = models.CharField(max_length=12, choices=EndReason, blank=True)
    remote_address = models.CharField(max_length=64, blank=True, help_text="The client's network address.")
    client_generation = models.CharField("client", max_length=8, choices=ClientGeneration, blank=True)
    audio_in_s = models.FloatField("audio in", default=0, help_text="Seconds of audio received.")
    audio_out_s = models.FloatField("audio out", default=0, help_text="Seconds of audio sent.")
    turn_count = models.PositiveIntegerField("turns", default=0)
    median_latency_ms = models.PositiveIntegerField("median latency", null=True, blank=True, help_text="ms")
    worst_latency_ms = models.PositiveIntegerField("worst latency", null=True, blank=True, help_text="ms")
    error = models.TextField(blank=True, help_text="What went wrong, if the call failed.")
    node = models.CharField(max_length=255, blank=True, help_text="The server process that ran the call.")

    hit: Any = None  # what a search found in the call; set by the page of the list

    objects = CallSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-id"]
        default_permissions = ["view"]  # append-only
        indexes = [
            # The list of calls, newest first, and its range of dates.
            models.Index(fields=["-started_at", "-id"], name="session_newest"),
            # The list filtered by status.
            models.Index(fields=["status", "-started_at"], name="session_by_status"),
            # The list filtered by profile, and a profile's deletion.
            models.Index(fields=["profile", "-started_at"], name="session_by_profile"),
            # close_orphans: the few active calls of a node.
            models.Index(fields=["node"], condition=Q(status="active"), name="session_active_by_node"),
        ]

    def __str__(self) -> str:
        return f"{self.caller or self.room_id or self.pk} at {self.started_at:%Y-%m-%d %H:%M:%S}"

    def get_absolute_url(self) -> str:
        """Return the address of the call's page."""
        return reverse("call-detail", args=[self.pk])

    @property
    def is_active(self) -> bool:
        """Whether the call is going on."""
        return self.status == CallStatus.ACTIVE

    @property
    def duration(self) -> timedelta | None:
        """From start to end; None while the call is going on."""
        return self.ended_at - self.started_at if self.ended_at else None
