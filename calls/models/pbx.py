"""PBXes: the RustPBXes that send calls here, what they may do with them, and which profile answers which."""

import hmac
import re
import secrets
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MaxLengthValidator, MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q

from .profile import PromptProfile
from .rule import fits
from .sealing import seal, unseal
from .tokens import hashed

TOKEN_BYTES = 32
# A header of an INVITE with one of these in its name may hold what nobody but the PBX should know.
CREDENTIALS = re.compile(r"auth|cookie|credential|^identity$|key|passw|secret|signature|token")


class PbxKind(models.TextChoices):
    """Which RustPBX it is."""

    BRIDGE = "bridge", "RustPBX 0.5 or later: asks us over HTTP and bridges calls"
    FORK = "fork", "RustPBX's fork with [pipecat]"


class SampleRate(models.IntegerChoices):
    """Of a bridge's audio, both ways."""

    TELEPHONE = 8_000, "8 kHz: telephones (PCMU, PCMA)"
    WIDE = 16_000, "16 kHz: WebRTC and HD telephones (G.722, Opus)"
    SUPERWIDE = 24_000, "24 kHz"
    FULL = 48_000, "48 kHz"


class DestinationKind(models.TextChoices):
    """How a call gets to a destination."""

    TRANSFER = "transfer", "Transfer: rings a telephone"
    QUEUE = "queue", "Queue: waits for somebody"


def base_url(value: str) -> None:
    """Raise ValidationError unless `value` is http(s)://host, perhaps with a port and a path."""
    try:
        parts = urlsplit(value)
        bad = bool(parts.port and parts.port > 65535)  # the property raises ValueError for others
    except ValueError:
        raise ValidationError("Enter an address such as http://10.0.0.5:8080.") from None
    if bad or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValidationError("Enter an address such as http://10.0.0.5:8080.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValidationError("Enter the address without a user, “?” and “#”.")


def spoken_name(text: str) -> str:
    """Return the name of the file in which a text is spoken, without .wav."""
    return hashed(text.strip())[:32]


class PbxQuerySet(models.QuerySet["Pbx"]):
    """Finding PBXes."""

    def of_token(self, token: str) -> "Pbx | None":
        """Return the PBX whose token this is, with its routes and destinations; compared in constant time."""
        return of_token(list(self.prefetch_related("routes__profile", "destinations")), token)


def of_token(pbxes: "list[Pbx]", token: str) -> "Pbx | None":
    """Return the one of these PBXes whose token this is. Every one is compared, in constant time."""
    offered, found = hashed(token), None
    for pbx in pbxes:
        for known in (pbx.ivr_token_hash, pbx.former_ivr_token_hash):
            if hmac.compare_digest(offered, known) and known:
                found = pbx
    return found


class Pbx(models.Model):
    """A RustPBX. Its tokens are stored encrypted, ours for it as a hash; nothing shows them."""

    name = models.CharField(max_length=80, unique=True, help_text="What people call it.")
    kind = models.CharField(max_length=10, choices=PbxKind, default=PbxKind.BRIDGE)
    agent_url = models.CharField(
        "our address",
        max_length=255,
        validators=[base_url],
        help_text="This server as the PBX reaches it, such as http://10.0.0.5:8765.",
    )
    console_url = models.CharField(
        "its address",
        max_length=255,
        blank=True,
        validators=[base_url],
        help_text="The PBX's HTTP address as this server reaches it, such as http://10.0.0.4:8080. "
        "Empty: nothing can be done there but what it asks us for.",
    )
    sealed_api_token = models.TextField(blank=True, editable=False, help_text="The token, encrypted.")
    sealed_rwi_token = models.TextField(blank=True, editable=False, help_text="The token, encrypted.")
    ivr_token_hash = models.CharField(max_length=64, blank=True, editable=False)
    former_ivr_token_hash = models.CharField(
        max_length=64, blank=True, editable=False, help_text="Valid until the new token is used."
    )
    sample_rate = models.PositiveIntegerField(
        choices=SampleRate,
        default=SampleRate.TELEPHONE,
        help_text="Of the audio, both ways. The PBX does not tell which telephones it has.",
    )
    timeout_ms = models.PositiveIntegerField(
        "time to connect",
        default=3000,
        validators=[MinValueValidator(500), MaxValueValidator(30_000)],
        help_text="Milliseconds, 500 to 30000: the audio connection has to stand by then.",
    )
    return_target = models.SlugField(
        "name of the IVR",
        max_length=80,
        default="voiceagent",
        help_text="The file name of our IVR in the PBX's config/ivr, without .toml.",
    )
    overflow_target = models.CharField(
        "overflow",
        max_length=255,
        blank=True,
        help_text="Where calls go that cannot be answered, such as sip:100@pbx.example.org. "
        "Empty, or if nobody answers there: the text below is spoken and the call ends.",
    )
    overflow_text = models.TextField(
        default="We cannot take your call at the moment. Please try again later.",
        blank=True,
        validators=[MaxLengthValidator(500)],
        help_text="Spoken by the embedded voice, in English. Empty: the call just ends.",
    )
    kept_headers = models.CharField(
        "SIP headers to keep",
        max_length=500,
        blank=True,
        help_text="Names of headers of the INVITE that are stored with the call, separated by commas, such "
        "as X-Customer. Credentials never are.",
    )
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = PbxQuerySet.as_manager()

    class Meta:
        verbose_name = "PBX"
        verbose_name_plural = "PBXes"
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Raise ValidationError for headers that may hold credentials."""
        if secret := sorted(filter(CREDENTIALS.search, self.headers_to_keep)):
            raise ValidationError({"kept_headers": f"{', '.join(secret)} may hold credentials."})

    @property
    def headers_to_keep(self) -> set[str]:
        """The names of headers that are stored, in lower case."""
        return {name.strip().lower() for name in self.kept_headers.split(",") if name.strip()}

    @property
    def api_token(self) -> str:
        """The token for its REST API; "" if none is set. Raises Unreadable."""
        return unseal(self.sealed_api_token)

    @api_token.setter
    def api_token(self, token: str) -> None:
        self.sealed_api_token = seal(token)

    @property
    def rwi_token(self) -> str:
        """The token for its RWI; "" if none is set. Raises Unreadable."""
        return unseal(self.sealed_rwi_token)

    @rwi_token.setter
    def rwi_token(self, token: str) -> None:
        self.sealed_rwi_token = seal(token)

    @property
    def has_ivr_token(self) -> bool:
        """Whether it has a token with which it may ask us."""
        return bool(self.ivr_token_hash)

    def new_ivr_token(self) -> str:
        """Make the token with which the PBX asks us, and return it: it can be seen this once.

        The one before is valid until the new one is used, so that no call is lost meanwhile.
        """
        token = secrets.token_urlsafe(TOKEN_BYTES)
        former = self.ivr_token_hash
        self.ivr_token_hash, self.former_ivr_token_hash = hashed(token), former
        self.save(update_fields=["ivr_token_hash", "former_ivr_token_hash", "updated_at"])
        return token

    def token_used(self, token: str) -> None:
        """The PBX has come with this token: if it is the new one, the one before ends."""
        if self.former_ivr_token_hash and hmac.compare_digest(hashed(token), self.ivr_token_hash):
            type(self).objects.filter(pk=self.pk).update(former_ivr_token_hash="")

    def profile_for(self, callee: str, caller: str) -> str:
        """Return the slug of the profile its routes choose; "" if none does: then the rules do."""
        for route in self.routes.all():
            if route.matches(callee, caller):
                return route.profile.slug
        return ""


class Destination(models.Model):
    """Where a call can be handed on to, by the name that agents and people use."""

    pbx = models.ForeignKey(Pbx, on_delete=models.CASCADE, related_name="destinations")
    name = models.CharField(max_length=80, help_text="Such as “sales”: what the agent calls it.")
    target = models.CharField(
        max_length=255, help_text="sip:200@pbx.example.org, an extension, or the name of a queue."
    )
    kind = models.CharField(max_length=10, choices=DestinationKind, default=DestinationKind.TRANSFER)
    description = models.CharField(
        max_length=200, blank=True, help_text="What it is for, for people and for the agent."
    )

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["pbx", "name"], name="one_destination_of_a_name"),
            # RustPBX loses the way back from a queue whose target has a "?".
            models.CheckConstraint(
                condition=~Q(kind="queue") | ~Q(target__contains="?"),
                name="queue_without_question_mark",
                violation_error_message="A queue's target must not hold a “?”.",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class PbxRoute(models.Model):
    """Which profile answers calls of one kind. The first that matches counts."""

    pbx = models.ForeignKey(Pbx, on_delete=models.CASCADE, related_name="routes")
    position = models.PositiveSmallIntegerField(default=0, help_text="The lowest is looked at first.")
    callee = models.CharField(
        "called", max_length=120, blank=True, help_text="Such as agent or 49301234*; empty: any."
    )
    caller = models.CharField(max_length=120, blank=True, help_text="Such as +4930*; empty: any.")
    profile = models.ForeignKey(PromptProfile, on_delete=models.PROTECT, related_name="routes")

    class Meta:
        verbose_name = "route"
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return f"{self.callee or '*'} ← {self.caller or '*'}: {self.profile}"

    def matches(self, callee: str, caller: str) -> bool:
        """Whether a call from `caller` to `callee` is of this kind, as rules say it."""
        return fits(self.callee, callee) and fits(self.caller, caller)
