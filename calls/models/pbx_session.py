"""Where each call stands that a PBX asked us about: what it was answered, and what is to come next."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .facts import CallStatus, EndReason
from .node import Node
from .pbx import Destination, Pbx, hashed
from .session import CallSession

SESSION_CHARS = 255
STRANDED_FOR = timedelta(minutes=10)  # nobody listens to silence any longer
TICKET_GRACE = timedelta(seconds=2)  # beyond the time in which the PBX gives up


class SessionState(models.TextChoices):
    """What the PBX was told last, and what came of it."""

    BRIDGING = "bridging", "Audio is about to be connected"
    TALKING = "talking", "The agent talks"
    TRANSFERRING = "transferring", "A telephone is ringing"
    QUEUED = "queued", "In a queue"
    OVERFLOWING = "overflowing", "Sent elsewhere: we could not answer"
    SPEAKING = "speaking", "A text is spoken, then the call ends"
    LEAVING = "leaving", "Told to hang up"
    ENDED = "ended", "The telephone call is over"


class Decision(models.TextChoices):
    """What the conversation wants done with the call once its audio connection is closed."""

    HANG_UP = "hang_up", "Hang up"
    TRANSFER = "transfer", "Transfer"
    QUEUE = "queue", "Queue"
    OVERFLOW = "overflow", "Overflow"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call as the PBX describes it, within what columns hold."""

    session_id: str
    caller: str
    callee: str


class PbxSessionQuerySet(models.QuerySet["PbxSession"]):
    """Finding sessions, redeeming tickets, deciding, ending. A status changes in one conditional update."""

    def at(self, pbx: Pbx, session_id: str) -> "PbxSession | None":
        """Return the session, locked until the transaction ends."""
        return self.select_for_update().filter(pbx=pbx, session_id=session_key(session_id)).first()

    def redeem(self, ticket: str, node_id: UUID) -> "PbxSession | None":
        """Return the session whose bridge this ticket opens, once and in time; None if it opens none.

        From now on the node runs it.
        """
        now = timezone.now()
        node = Node.objects.using(self.db).filter(pk=node_id).first()
        valid = self.filter(ticket_hash=hashed(ticket), state=SessionState.BRIDGING, expires_at__gt=now)
        found = valid.select_related("pbx").prefetch_related("pbx__destinations")
        session = found.first() if ticket else None
        won = session and valid.filter(pk=session.pk).update(
            state=SessionState.TALKING, ticket_hash="", connected_at=now, node=node
        )
        return session if won else None

    def decide(
        self, id: int, bridge: int, decision: Decision, destination: Destination | None = None
    ) -> bool:
        """Store what is to be done when this bridge ends; whether it still stood. The last one counts."""
        name, target = (destination.name, destination.target) if destination else ("", "")
        standing = self.filter(pk=id, bridges=bridge, state=SessionState.TALKING)
        return standing.update(decision=decision, destination=name, target=target) == 1

    def decide_if_open(self, id: int, bridge: int, decision: Decision) -> bool:
        """Decide, unless the conversation has; whether this did."""
        standing = self.filter(pk=id, bridges=bridge, state=SessionState.TALKING, decision="")
        return standing.update(decision=decision) == 1

    def end(self, pbx: Pbx, session_id: str, hung_up_by: str, reason: str) -> "PbxSession | None":
        """The telephone call is over; return the session as it was before, None if it is unknown."""
        session = self.filter(pbx=pbx, session_id=session_key(session_id)).first()
        if session is not None:
            self.filter(pk=session.pk).exclude(state=SessionState.ENDED).update(
                state=SessionState.ENDED,
                ended_at=timezone.now(),
                hung_up_by=hung_up_by[:20],
                end_reason=reason[:200],
                ticket_hash="",
            )
        return session

    def stranded(self, now: datetime) -> "PbxSessionQuerySet":
        """Return the sessions whose caller hears nothing: no audio came, or the process that ran it died."""
        unconnected = Q(state=SessionState.BRIDGING, expires_at__range=(now - STRANDED_FOR, now))
        orphaned = Q(
            Q(call__status=CallStatus.ACTIVE) | Q(call__end_reason=EndReason.CRASH),
            state=SessionState.TALKING,
            node__in=Node.objects.gone(),
            node__seen_at__gt=now - STRANDED_FOR,
        )
        return self.filter(unconnected | orphaned).exclude(rescued_bridge=models.F("bridges"))

    def rescue(self, id: int, bridge: int) -> bool:
        """Take it on oneself to rescue this bridge's caller; of several that try, one does."""
        return (
            self.filter(pk=id, bridges=bridge).exclude(rescued_bridge=bridge).update(rescued_bridge=bridge)
            == 1
        )


def session_key(session_id: str) -> str:
    """Return the id as it is stored: a longer one than the column is told apart by its hash."""
    return session_id if len(session_id) <= SESSION_CHARS else f"sha256:{hashed(session_id)}"


class PbxSession(models.Model):
    """One telephone call of a PBX, from its first question to its end."""

    pbx = models.ForeignKey(Pbx, on_delete=models.CASCADE, related_name="sessions")
    session_id = models.CharField(max_length=SESSION_CHARS, help_text="The PBX's name for the call.")
    # The recorder writes the call's row a moment later.
    call = models.ForeignKey(
        CallSession,
        null=True,
        blank=True,
        on_delete=models.CASCADE,
        related_name="pbx_sessions",
        db_constraint=False,
    )
    caller = models.CharField(max_length=255, blank=True)
    callee = models.CharField(max_length=255, blank=True)
    metadata = models.JSONField(default=dict, help_text="What else is known of the call.")
    profile = models.CharField(max_length=80, blank=True, help_text="The slug of the profile that answers.")
    version = models.PositiveIntegerField(null=True, blank=True, help_text="The number of its version.")
    state = models.CharField(max_length=12, choices=SessionState)
    bridges = models.PositiveSmallIntegerField(default=0, help_text="How often audio was to be connected.")
    ticket_hash = models.CharField(max_length=64, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When the ticket ends.")
    decision = models.CharField(max_length=10, choices=Decision, blank=True)
    destination = models.CharField(max_length=80, blank=True, help_text="Its name.")
    target = models.CharField(max_length=255, blank=True, help_text="The destination as the PBX knows it.")
    why = models.CharField(max_length=200, blank=True, help_text="Why the caller is with the agent again.")
    rescued_bridge = models.PositiveSmallIntegerField(default=0)
    node = models.ForeignKey(Node, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    started_at = models.DateTimeField(auto_now_add=True)
    connected_at = models.DateTimeField(null=True, blank=True, help_text="When audio was last connected.")
    ended_at = models.DateTimeField(null=True, blank=True)
    hung_up_by = models.CharField(max_length=20, blank=True)
    end_reason = models.CharField(max_length=200, blank=True)

    objects = PbxSessionQuerySet.as_manager()

    class Meta:
        verbose_name = "PBX session"
        ordering = ["-started_at", "-id"]
        default_permissions = ["view"]  # the server writes it
        constraints = [models.UniqueConstraint(fields=["pbx", "session_id"], name="one_session_of_an_id")]
        indexes = [
            # redeem: by the ticket.
            models.Index(fields=["ticket_hash"], condition=~Q(ticket_hash=""), name="session_by_ticket"),
            # stranded: the few that go on.
            models.Index(
                fields=["state"], condition=Q(state__in=["bridging", "talking"]), name="session_going_on"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.session_id} of {self.pbx}"

    @property
    def key(self) -> str:
        """The name by which this server knows the telephone call."""
        return f"pbx:{self.pbx_id}:{self.session_id}"

    @property
    def ticket(self) -> str:
        """The ticket of the present bridge: made, not stored, so that a repeated question gets it again."""
        value = f"{self.bridges}:{self.key}"
        return salted_hmac("calls.pbx.ticket", value, settings.SECRET_KEY, algorithm="sha256").hexdigest()

    def bridge(self, why: str = "") -> None:
        """The next audio connection is to be made: with a new ticket, in time. Not saved."""
        self.bridges += 1
        self.state = SessionState.BRIDGING
        self.ticket_hash = hashed(self.ticket)
        self.expires_at = timezone.now() + timedelta(milliseconds=self.pbx.timeout_ms) + TICKET_GRACE
        self.why = why[:200]
        self.decision = self.destination = self.target = ""
