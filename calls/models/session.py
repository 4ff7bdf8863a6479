"""Call sessions: one row per call, from its start to its end."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import models, transaction
from django.db.models import Q
from django.urls import reverse

from . import facts, search
from .facts import CallEnd, CallProgress, CallStart, CallStatus, ClientGeneration, Description, EndReason
from .node import Node
from .numbers import MOST_CHARS, normalised
from .profile import PromptProfile
from .session_finding import FindingCalls
from .storable import columns, storable_json
from .transcript import Turn
from .version import ProfileVersion

ERASED_AT_ONCE = 500  # calls in one transaction


class CallSessionQuerySet(FindingCalls):
    """Starting, ending and erasing calls, and finding them."""

    def start(self, start: CallStart) -> "CallSession":
        """Create the active call, or return it as it is if it exists.

        What was deleted meanwhile, a version, a profile that is tried out or a node, the call goes without.
        """
        values = columns(self.model, start)
        version = ProfileVersion.objects.using(self.db).filter(pk=values.pop("version_id")).first()
        profile = PromptProfile.objects.using(self.db).filter(pk=values.pop("profile_id")).first()
        node = Node.objects.using(self.db).filter(pk=values.pop("node_id")).first()
        defaults = {
            **values,
            "version": version,
            "profile_id": version.profile_id if version else profile and profile.pk,
            "node": node,
            "caller_normalised": normalised(values["caller"]),
            "expires_at": version.kept_until(start.started_at) if version else None,
        }
        session, created = self.get_or_create(pk=start.id, defaults=defaults)
        if created:
            self._write_names(start.id, values)
        return session

    def describe(self, id: UUID, description: Description) -> bool:
        """Store what the client told of the call `id` after it had begun; return whether the call exists."""
        values = columns(self.model, description)
        known = self.filter(pk=id).update(**values, caller_normalised=normalised(values["caller"])) == 1
        if known:
            self._write_names(id, values)
        return known

    def answered_by(self, id: UUID, in_force: Mapping[str, Any]) -> bool:
        """Store what really answers the call `id`: providers, settings, stand-ins. Whether it exists."""
        return self.filter(pk=id).update(in_force=storable_json(dict(in_force))) == 1

    def go_on(self, id: UUID, progress: CallProgress) -> bool:
        """Store how far the active call `id` has got, for the case that nothing else is heard of it."""
        return self.active().filter(pk=id).update(**columns(self.model, progress)) == 1

    def finish(self, end: CallEnd) -> bool:
        """End the call if it is active, or if it was taken for one whose server had died.

        Returns whether this call of the method ended it. Turn count and latencies are taken from the turns
        stored so far. Raises ValueError for a status that does not end a call and an unknown reason.
        """
        if end.status not in CallStatus.values or end.status == CallStatus.ACTIVE:
            raise ValueError(f"a call ends as completed, failed or interrupted, not as {end.status!r}")
        if end.end_reason not in EndReason.values:
            raise ValueError(f"unknown end reason {end.end_reason!r}")
        values = columns(self.model, end)
        del values["id"]
        with transaction.atomic(using=self.db):
            turns = Turn.objects.using(self.db).filter(session_id=end.id)
            turns.settle()
            totals = facts.turn_totals(turns.values_list("total_ms", flat=True))
            unended = self.filter(Q(status=CallStatus.ACTIVE) | Q(end_reason=EndReason.CRASH))
            return unended.filter(pk=end.id).update(**values, **totals) == 1

    def close_orphans(self) -> list[UUID]:
        """Close the active calls that no process runs any more and return which those were.

        Each ends with the last that is known of it: the caller's audio, a turn, or its beginning. Of several
        nodes that close a call at once, one does.
        """
        closed = []
        for session in self.orphaned():
            with transaction.atomic(using=self.db):
                turns = list(session.turns.all())
                last_ms = max((turn.end_ms or turn.start_ms for turn in turns), default=0)
                known_at = session.last_audio_at or session.started_at
                still = self.orphaned().filter(pk=session.pk)
                won = still.update(
                    status=CallStatus.INTERRUPTED,
                    end_reason=EndReason.CRASH,
                    ended_at=max(session.started_at + timedelta(milliseconds=last_ms), known_at),
                    **facts.turn_totals(turn.total_ms for turn in turns),
                )
            if won:
                Turn.objects.using(self.db).filter(session=session).settle()
                closed.append(session.pk)
        return closed

    def erase(self, ids: Iterable[UUID]) -> int:
        """Delete these calls with all that is stored of them; return how many calls those were.

        Active calls are left: their server goes on writing them.
        """
        erased, all_ids = 0, list(ids)
        for first in range(0, len(all_ids), ERASED_AT_ONCE):
            some = all_ids[first : first + ERASED_AT_ONCE]
            with transaction.atomic(using=self.db):
                calls = self.filter(pk__in=some).exclude(status=CallStatus.ACTIVE)
                erased += calls.delete()[1].get(self.model._meta.label, 0)
        return erased

    def _write_names(self, id: UUID, values: Mapping[str, Any]) -> None:
        """Store what the call `id` is found by besides what was said."""
        names = (values["room_id"], values["caller"], values["callee"])
        search.CallNames.objects.using(self.db).write(id, names)


class CallSession(models.Model):
    """One call: who, when, how it was configured and how it went."""

    id = models.UUIDField(
        primary_key=True, editable=False, help_text="Given by the server when the call starts."
    )
    room_id = models.CharField("room", max_length=255, blank=True, help_text="RustPBX's name for the call.")
    version = models.ForeignKey(
        ProfileVersion,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="sessions",
        db_index=False,  # session_by_version below serves it
        help_text="The version of the profile that answered.",
    )
    # The version's profile, once more: only with both in one table does an index give a profile's calls in
    # the order of the list. A version's profile never changes, so the two cannot come apart.
    profile = models.ForeignKey(
        PromptProfile,
        null=True,
        blank=True,
        on_delete=models.PROTECT,
        related_name="sessions",
        db_index=False,  # session_by_profile below serves it
        help_text="The profile that answered.",
    )
    in_force = models.JSONField(
        default=dict, help_text="What really answered: providers, settings, and who stood in for whom."
    )
    is_test = models.BooleanField(
        "test call", default=False, help_text="Somebody tried the agent out, from its pages."
    )
    draft = models.JSONField(
        null=True, blank=True, help_text="The unsaved values of the profile that were tried out, by field."
    )
    client_configs = models.JSONField(
        default=dict, help_text="The provider settings RustPBX sent, used only if the profile says so."
    )
    caller = models.CharField(max_length=255, blank=True, help_text="Who called, as RustPBX said.")
    caller_normalised = models.CharField(
        max_length=MOST_CHARS,
        blank=True,
        editable=False,
        help_text="The caller's digits, or name in lower case.",
    )
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
    last_audio_at = models.DateTimeField("caller's last audio", null=True, blank=True)
    turn_count = models.PositiveIntegerField("turns", default=0)
    median_latency_ms = models.PositiveIntegerField("median latency", null=True, blank=True, help_text="ms")
    worst_latency_ms = models.PositiveIntegerField("worst latency", null=True, blank=True, help_text="ms")
    error = models.TextField(blank=True, help_text="What ended the call, if it failed.")
    error_count = models.PositiveIntegerField(
        "errors", default=0, help_text="How many of the call's events are errors."
    )
    node = models.ForeignKey(
        Node,
        null=True,
        blank=True,
        # A node's row is kept as long as it has calls: it says where they ran. Its index serves the search
        # for nodes without calls.
        on_delete=models.PROTECT,
        related_name="sessions",
        help_text="The server process that ran the call.",
    )
    expires_at = models.DateTimeField("expires", null=True, blank=True, help_text="When it may be erased.")

    hit: Any = None  # what a search found in the call; set by the page of the list
    telephone: Any = None  # what its PBX told of it; set by its page

    objects = CallSessionQuerySet.as_manager()

    class Meta:
        ordering = ["-started_at", "-id"]
        default_permissions = ["view"]  # append-only
        permissions = [("direct_callsession", "Can tell a call in progress what to do")]
        indexes = [
            # The list of calls, newest first, and its range of dates.
            models.Index(fields=["-started_at", "-id"], name="session_newest"),
            # The list filtered by status, and the few active calls.
            models.Index(fields=["status", "-started_at"], name="session_by_status"),
            # The list filtered by profile, and a profile's deletion.
            models.Index(fields=["profile", "-started_at"], name="session_by_profile"),
            # How the newest calls of a version went, and a version's deletion.
            models.Index(fields=["version", "-started_at"], name="session_by_version"),
            # of_caller: the calls of one caller, newest first.
            models.Index(
                fields=["caller_normalised", "-started_at"],
                condition=~Q(caller_normalised=""),
                name="session_by_caller",
            ),
            # expired: the calls to be erased.
            models.Index(
                fields=["expires_at"], condition=Q(expires_at__isnull=False), name="session_expiring"
            ),
            # The few test calls, newest first, and whether there are any.
            models.Index(fields=["-started_at"], condition=Q(is_test=True), name="session_tests"),
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
    def has_errors(self) -> bool:
        """Whether it is one of `with_errors`."""
        return self.error_count > 0 or self.status == CallStatus.FAILED

    @property
    def duration(self) -> timedelta | None:
        """From start to end; None while the call is going on."""
        return self.ended_at - self.started_at if self.ended_at else None
