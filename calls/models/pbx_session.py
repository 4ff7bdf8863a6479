"""Where each call stands that a PBX asked us about: what it was answered, and what is to come next."""

from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.conf import settings
from django.core.signing import BadSignature, Signer
from django.db import models
from django.db.models import F, Q
from django.utils import timezone
from django.utils.crypto import salted_hmac

from .facts import EndReason
from .node import Node
from .pbx import Destination, Pbx
from .session import CallSession
from .tokens import hashed

SESSION_CHARS = 255
STRANDED_FOR = timedelta(minutes=10)  # nobody listens to silence any longer
MOST_RESCUES = 12  # tries
RESCUED_EVERY = timedelta(seconds=4)
# After the end of a connection: what RustPBX has got of the agent's voice is spoken first, for up to 5 s.
ASKS_WITHIN = timedelta(seconds=8)
SPOKEN_WITHIN = timedelta(seconds=60)  # a text, and the end after it
TICKET_GRACE = timedelta(seconds=2)  # beyond the time in which the PBX gives up
_SIGNER = Signer(salt="calls.pbx.ticket")


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


TOLD_TO_END = (SessionState.SPEAKING, SessionState.LEAVING)


class Decision(models.TextChoices):
    """What the conversation wants done with the call once its audio connection is closed."""

    HANG_UP = "hang_up", "Hang up"
    TRANSFER = "transfer", "Transfer"
    QUEUE = "queue", "Queue"
    OVERFLOW = "overflow", "Overflow"


def is_ours(ticket: str) -> bool:
    """Whether this server made the ticket, whatever it opens by now. No database is asked: strangers ask."""
    try:
        _SIGNER.unsign(ticket)
    except BadSignature:
        return False
    return True


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
        if not session or not won:
            return None
        session.state = SessionState.TALKING
        return session

    def decide(
        self, id: int, bridge: int, decision: Decision, destination: Destination | None = None
    ) -> bool:
        """Store what is to be done when this bridge ends; whether it still stood. The last one counts."""
        name, target = (destination.name, destination.target) if destination else ("", "")
        standing = self.filter(pk=id, bridges=bridge, state=SessionState.TALKING)
        return standing.update(decision=decision, destination=name, target=target) == 1

    def decide_if_open(
        self, id: int, bridge: int, decision: Decision, _to: Destination | None = None
    ) -> bool:
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
        """Return the sessions whose caller hears nothing: no audio came, or the process that ran it died.

        Not those that are elsewhere: the caller may be talking to somebody there, which nothing tells.
        """
        left = Q(node__in=Node.objects.gone(), node__seen_at__range=(now - STRANDED_FOR, now - ASKS_WITHIN))
        hung_up = Q(call__end_reason__in=[EndReason.DISCONNECT, EndReason.CLOSED])
        ending = Q(state=SessionState.SPEAKING, told_at__range=(now - STRANDED_FOR, now - SPOKEN_WITHIN)) | Q(
            state=SessionState.LEAVING, told_at__range=(now - STRANDED_FOR, now - ASKS_WITHIN)
        )
        return self.filter(
            Q(state=SessionState.BRIDGING, expires_at__range=(now - STRANDED_FOR, now))
            | (Q(state=SessionState.TALKING) & left & ~hung_up)
            | (ending & left),
            _may_be_rescued(now),
        )

    def rescue(self, session: "PbxSession", now: datetime) -> bool:
        """Take it on oneself to rescue the caller, who is where he was; of several that try, one does."""
        standing = self.filter(pk=session.pk, bridges=session.bridges, state=session.state)
        return standing.filter(_may_be_rescued(now)).update(rescued_at=now, rescues=F("rescues") + 1) == 1

    def hung_up(self, session: "PbxSession", *, is_there: bool) -> None:
        """The PBX was told to end the call, or has none of that name any more."""
        state = SessionState.LEAVING if is_there else SessionState.ENDED
        standing = self.filter(pk=session.pk, bridges=session.bridges, state=session.state)
        standing.update(state=state, ended_at=None if is_there else timezone.now(), ticket_hash="")


def _may_be_rescued(now: datetime) -> Q:
    """Has not been tried too often, nor a moment ago."""
    return Q(rescues__lt=MOST_RESCUES) & (Q(rescued_at=None) | Q(rescued_at__lt=now - RESCUED_EVERY))


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
    told_at = models.DateTimeField(null=True, blank=True, help_text="When the PBX was last answered.")
    rescues = models.PositiveSmallIntegerField(default=0, help_text="How often a silent caller was helped.")
    rescued_at = models.DateTimeField(null=True, blank=True)
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
                fields=["state"],
                condition=Q(state__in=["bridging", "talking", "speaking", "leaving"]),
                name="session_in_our_hands",
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
        made = salted_hmac("calls.pbx.ticket", value, settings.SECRET_KEY, algorithm="sha256").hexdigest()
        return _SIGNER.sign(made)

    def told(self, state: SessionState) -> None:
        """The PBX is answered. Not saved."""
        self.state, self.told_at = state, timezone.now()
        self.rescues, self.rescued_at = 0, None

    def begin_anew(self) -> None:
        """The call that was had before has ended: what comes is another, and the session's from now on."""
        self.call_id = uuid4()
        self.save(update_fields=["call_id"])

    def bridge(self, why: str = "") -> None:
        """The next audio connection is to be made: with a new ticket, in time. Not saved."""
        self.bridges += 1
        self.state = SessionState.BRIDGING
        self.ticket_hash = hashed(self.ticket)
        self.expires_at = timezone.now() + timedelta(milliseconds=self.pbx.timeout_ms) + TICKET_GRACE
        self.why = why[:200]
        self.decision = self.destination = self.target = ""
