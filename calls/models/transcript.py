"""What happened in a call: who said what, and what else."""

from collections.abc import Iterable
from typing import Any, NotRequired, TypedDict
from uuid import UUID

from django.db import models

from .folding import folded
from .storable import storable_json, storable_text


class Speaker(models.TextChoices):
    """Who speaks in a turn."""

    CALLER = "caller", "Caller"
    AGENT = "agent", "Agent"


class EventKind(models.TextChoices):
    """What kind of thing happened."""

    ERROR = "error", "Error"
    INTERRUPTION = "interruption", "Interruption"
    CONFIGURATION = "configuration", "Configuration"
    PROVIDER_FAILURE = "provider_failure", "Provider failure"


class TurnRow(TypedDict):
    """A turn to be written; times in ms from the call's start, `end_ms` None while it is open.

    What is not `final` may be told again, with more text, and is not found by a search yet.
    """

    session_id: UUID
    index: int
    speaker: str
    text: str
    start_ms: int
    end_ms: int | None
    interrupted: bool
    language: str
    latency: dict[str, float]
    final: NotRequired[bool]


class EventRow(TypedDict):
    """An event to be written; `ms` from the call's start, `detail` with a "message"."""

    session_id: UUID
    ms: int
    kind: str
    detail: dict[str, Any]


class TurnQuerySet(models.QuerySet["Turn"]):
    """Writing turns."""

    def record(self, rows: Iterable[TurnRow]) -> None:
        """Write the turns in one statement; a turn that exists (same session and index) is overwritten.

        Of several rows for one turn the last counts. Raises IntegrityError if a session does not exist.
        """
        latest = {(row["session_id"], row["index"]): row for row in rows}
        turns = [
            self.model(
                **{
                    **row,
                    "text": storable_text(row["text"]),
                    "folded": folded(storable_text(row["text"])) if row.get("final", True) else "",
                    "language": storable_text(row["language"])[:20],
                    "latency": storable_json(row["latency"]),
                }
            )
            for row in latest.values()
        ]
        self.bulk_create(
            turns,
            update_conflicts=True,
            unique_fields=["session", "index"],
            update_fields=[
                "speaker",
                "text",
                "folded",
                "start_ms",
                "end_ms",
                "interrupted",
                "language",
                "latency",
                "final",
            ],
        )


class CallEventQuerySet(models.QuerySet["CallEvent"]):
    """Writing events."""

    def record(self, rows: Iterable[EventRow]) -> None:
        """Write the events in one statement. Raises IntegrityError if a session does not exist."""
        self.bulk_create([self.model(**{**row, "detail": storable_json(row["detail"])}) for row in rows])


class Turn(models.Model):
    """One speaker's turn in a call."""

    session = models.ForeignKey(
        "calls.CallSession",
        on_delete=models.CASCADE,
        related_name="turns",
        db_index=False,  # the unique index below starts with it
    )
    index = models.PositiveIntegerField(help_text="The turn's number in its call, from 0.")
    speaker = models.CharField(max_length=8, choices=Speaker)
    text = models.TextField(blank=True)
    folded = models.TextField(
        blank=True, editable=False, help_text="The text as it is searched; empty until it is final."
    )
    start_ms = models.PositiveIntegerField("start", help_text="ms from the call's start.")
    end_ms = models.PositiveIntegerField(
        "end", null=True, blank=True, help_text="ms from the call's start; empty while the turn is open."
    )
    interrupted = models.BooleanField(default=False, help_text="The other side cut it short.")
    language = models.CharField(max_length=20, blank=True)
    final = models.BooleanField(default=True, help_text="Its text does not change any more.")
    latency = models.JSONField(
        default=dict, blank=True, help_text="Any of stt, llm_ttft, tts_ttfb and turn_latency, in ms."
    )

    objects = TurnQuerySet.as_manager()

    class Meta:
        ordering = ["session_id", "index"]
        default_permissions = ["view"]  # append-only
        constraints = [
            # Also serves a call's transcript in order.
            models.UniqueConstraint(fields=["session", "index"], name="turn_index_in_session"),
        ]

    def __str__(self) -> str:
        return f"{self.get_speaker_display()}: {self.text[:60]}"


class CallEvent(models.Model):
    """Something that happened in a call besides the talk."""

    session = models.ForeignKey(
        "calls.CallSession",
        on_delete=models.CASCADE,
        related_name="events",
        db_index=False,  # event_in_call below starts with it
    )
    ms = models.PositiveIntegerField("time", help_text="ms from the call's start.")
    kind = models.CharField(max_length=20, choices=EventKind)
    detail = models.JSONField(default=dict, blank=True, help_text="A “message” and whatever else is known.")

    objects = CallEventQuerySet.as_manager()

    class Meta:
        ordering = ["session_id", "ms", "id"]
        default_permissions = ["view"]  # append-only
        indexes = [
            # A call's events in order.
            models.Index(fields=["session", "ms"], name="event_in_call"),
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.message}"

    @property
    def message(self) -> str:
        """The detail's message; empty if there is none."""
        return str(self.detail.get("message", "")) if isinstance(self.detail, dict) else ""
