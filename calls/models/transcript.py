"""What happened in a call: who said what, and what else."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from uuid import UUID, uuid4

from django.db import models, transaction
from django.db.models import Count, Max, Min

from .folding import folded
from .storable import columns

MOST_FAILURES = 20  # different ones that are told of a call


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
    KEY = "key", "Key"
    SHORTENED = "shortened", "Shortened"
    HANG_UP = "hang_up", "Hang-up"
    TRANSFER = "transfer", "Transfer"
    COMMAND = "command", "Command"


class Severity(models.TextChoices):
    """How bad an event is."""

    INFO = "info", "Information"
    WARNING = "warning", "Warning"
    ERROR = "error", "Error"


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn as far as it is known; `start_ms` and `end_ms` count from the call's start.

    `end_ms` is None while the speaker speaks. What is not `final` may be told again, with more text. The
    other times are durations in ms, None where they were not measured.
    """

    session_id: UUID
    index: int
    speaker: str
    text: str
    start_ms: int
    end_ms: int | None = None
    interrupted: bool = False
    language: str = ""
    final: bool = False
    end_of_turn_ms: int | None = None
    stt_ms: int | None = None
    llm_ms: int | None = None
    tts_ms: int | None = None
    total_ms: int | None = None


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event; `ms` counts from the call's start, `provider` is such as "stt" or "stt/cartesia".

    `turn` is the index of the turn it belongs to, `detail` whatever else is known. `key` makes it the same
    event when it is written twice, as after a connection that broke at the commit.
    """

    session_id: UUID
    ms: int
    kind: str
    severity: str
    message: str
    provider: str = ""
    turn: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)
    key: UUID = field(default_factory=uuid4)


@dataclass(frozen=True, slots=True)
class Failure:
    """Errors of a call that say the same; `first_ms` and `last_ms` count from the call's start."""

    provider: str
    message: str
    count: int
    first_ms: int
    last_ms: int


_TURN_KEYS = ("session_id", "index")
_EVENT_FACTS = [fact.name for fact in fields(EventRow) if fact.name not in ("key", "session_id")]
_TURN_FACTS = [fact.name for fact in fields(TurnRow) if fact.name not in _TURN_KEYS]


class TurnQuerySet(models.QuerySet["Turn"]):
    """Writing turns."""

    def record(self, rows: Iterable[TurnRow]) -> None:
        """Write the turns in one statement; a turn that exists (same session and index) is overwritten.

        Of several rows for one turn the last counts. Raises IntegrityError if a session does not exist.
        """
        latest = {(row.session_id, row.index): columns(self.model, row) for row in rows}
        turns = [
            self.model(**values, folded=folded(values["text"]) if values["final"] else "")
            for values in latest.values()
        ]
        self.bulk_create(
            turns,
            update_conflicts=True,
            unique_fields=["session", "index"],
            update_fields=[*_TURN_FACTS, "folded"],
        )

    def settle(self) -> None:
        """Make these turns final, as their call is over: their text is found from now on."""
        turns = list(self.filter(final=False))
        for turn in turns:
            turn.final, turn.folded = True, folded(turn.text)
        Turn.objects.using(self.db).bulk_update(turns, ["final", "folded"])


class CallEventQuerySet(models.QuerySet["CallEvent"]):
    """Writing events, and finding what went wrong."""

    def record(self, rows: Iterable[EventRow]) -> None:
        """Write the events in one statement and count the errors on their calls, in one for each call.

        An event that exists (same key) is overwritten; of several the last counts.

        Raises IntegrityError if a session does not exist.
        """
        latest = {row.key: row for row in rows}
        events = [self.model(**columns(self.model, row)) for row in latest.values()]
        failed = {event.session_id for event in events if event.severity == Severity.ERROR}
        calls = self.model.session.field.related_model._base_manager.using(self.db)
        with transaction.atomic(using=self.db):
            self.bulk_create(events, update_conflicts=True, unique_fields=["key"], update_fields=_EVENT_FACTS)
            for session_id in failed:
                errors = self.errors().filter(session_id=session_id).count()
                calls.filter(pk=session_id).update(error_count=errors)

    def errors(self) -> "CallEventQuerySet":
        """Return what went wrong."""
        return self.filter(severity=Severity.ERROR)

    def failures_of(self, session_id: UUID) -> list[Failure]:
        """Return the call's errors, those that say the same as one, in the order they first came.

        Of more than `MOST_FAILURES` those that came most often.
        """
        groups = self.errors().filter(session_id=session_id).values("provider", "message")
        counted = groups.annotate(count=Count("id"), first_ms=Min("ms"), last_ms=Max("ms"))
        most = [
            Failure(**group) for group in counted.order_by("-count", "first_ms", "message")[:MOST_FAILURES]
        ]
        return sorted(most, key=lambda failure: (failure.first_ms, failure.message))


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
    final = models.BooleanField(default=False, help_text="Nothing more is added to the text.")
    end_of_turn_ms = models.PositiveIntegerField(
        "end of turn",
        null=True,
        blank=True,
        help_text="ms from the caller's last sound until the turn was judged over.",
    )
    stt_ms = models.PositiveIntegerField(
        "speech-to-text", null=True, blank=True, help_text="ms the words took."
    )
    llm_ms = models.PositiveIntegerField(
        "language model", null=True, blank=True, help_text="ms until the reply's first words."
    )
    tts_ms = models.PositiveIntegerField(
        "text-to-speech", null=True, blank=True, help_text="ms until the voice's first sound."
    )
    total_ms = models.PositiveIntegerField(
        "answered after",
        null=True,
        blank=True,
        help_text="ms from the caller's last sound to the agent's first.",
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
    severity = models.CharField(max_length=8, choices=Severity, default=Severity.INFO)
    message = models.TextField(blank=True)
    provider = models.CharField(
        max_length=80, blank=True, help_text="Whose event it is: stt, llm or tts, and the provider's name."
    )
    turn = models.PositiveIntegerField(null=True, blank=True, help_text="The turn's number in its call.")
    detail = models.JSONField(default=dict, blank=True, help_text="Whatever else is known.")
    key = models.UUIDField(
        null=True, unique=True, editable=False, help_text="Makes it one event, however often it is written."
    )

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
