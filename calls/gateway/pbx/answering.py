"""A question of a PBX's IVR: whose it is, where the call stands, the answer. For database threads."""

import logging
import math
import time
import uuid
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from calls.gateway import admission
from calls.gateway.pbx import spoken
from calls.models import (
    Asked,
    CallEnd,
    CallStart,
    CallStatus,
    Description,
    EndReason,
    Pbx,
    PbxSession,
    PromptProfile,
    SessionState,
)
from calls.models.pbx import of_token
from calls.models.pbx_session import session_key
from calls.process import this_process
from calls.profiles.choosing import choose_now
from calls.rustpbx import ivr
from calls.rustpbx.ivr import Do, Plan, Standing, Step

logger = logging.getLogger(__name__)

REMEMBERED_S = 2.0  # what is changed about a PBX counts by then
CONNECTS_WITHIN_S = 2.0  # beyond the PBX's own bound a place is kept and a ticket is valid
NOT_ANSWERED = {EndReason.OVERFLOW: CallStatus.FAILED, EndReason.DISCONNECT: CallStatus.COMPLETED}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the PBX is told, and what is to be done besides.

    Attributes:
        body: what it is told.
        session, bridge, within_s: name the audio connection that is to come, and when, if one is.
        taken: our key of a call that was handed on and talked to somebody there.
        began, ended: are to be stored of the call.
    """

    body: dict[str, Any]
    session: int | None = None
    bridge: int = 0
    within_s: float = 0.0
    taken: str = ""
    began: CallStart | None = None
    ended: CallEnd | None = None


class Stranger(Exception):
    """The token is nobody's."""


_remembered: list[Pbx] = []  # as they were last read, also for when the database is away
_read_at = -math.inf


def known(token: str) -> Pbx:
    """Return the PBX of this token, as it was at most 2 s ago. Raises Stranger."""
    global _read_at  # noqa: PLW0603  of the list above
    now = time.monotonic()
    pbx = of_token(_remembered, token) if now - _read_at < REMEMBERED_S else None
    if pbx is None:
        _remembered[:] = Pbx.objects.prefetch_related("routes__profile", "destinations")
        _read_at = now
        pbx = of_token(_remembered, token)
    if pbx is None:
        raise Stranger
    pbx.token_used(token)
    return pbx


def answer(token: str, body: bytes, address: str) -> Answer:
    """Answer a question. Raises Stranger, and what the database raises."""
    pbx = known(token)
    try:
        step = ivr.decode(body, pbx.headers_to_keep)
    except ivr.Unusable as e:
        logger.warning("%s asked what cannot be answered: %s", pbx, e)
        return Answer(ivr.hang_up())
    try:
        return _answer(pbx, step, address)
    except IntegrityError:  # asked twice at the same time: the other was first
        return _answer(pbx, step, address)


def _answer(pbx: Pbx, step: Step, address: str) -> Answer:
    with transaction.atomic():
        session = PbxSession.objects.at(pbx, step.session_id)
        if session is None:
            return _of_new(pbx, step, address)
        session.pbx = pbx
        if session.state == SessionState.ENDED:
            return Answer(ivr.hang_up())
        standing = Standing(session.state, session.bridges, session.decision, session.destination)
        answer = _follow(session, ivr.plan(step, standing))
        return replace(answer, taken=session.key) if step.connected else answer


def without_database(token: str, body: bytes) -> Answer:
    """Answer a question when nothing can be read or stored: the call goes elsewhere. Raises Stranger."""
    pbx = of_token(_remembered, token)
    if pbx is None:
        raise Stranger
    try:
        step = ivr.decode(body)
    except ivr.Unusable:
        return Answer(ivr.hang_up())
    do = ivr.plan(step, None).do
    return Answer(_body(_elsewhere(pbx, spoken_only=do is Do.SPEAK) if do is not Do.HANG_UP else do, pbx))


def _of_new(pbx: Pbx, step: Step, address: str) -> Answer:
    plan = ivr.plan(step, None)
    if plan.do is not Do.BRIDGE:
        return Answer(_body(_elsewhere(pbx, spoken_only=True) if plan.do is Do.SPEAK else plan.do, pbx))
    session = PbxSession(
        pbx=pbx,
        session_id=session_key(step.session_id),
        caller=step.caller.name[:255],
        callee=step.callee.name[:255],
        metadata=metadata_of(pbx, step),
        state=SessionState.BRIDGING,
    )
    version = _choose(session)
    began = CallStart(
        id=uuid.uuid4(),
        version_id=version,
        description=Description(
            room_id=step.session_id,
            caller=session.caller,
            callee=session.callee,
            metadata=session.metadata,
            client_configs={},
        ),
        started_at=timezone.now(),
        remote_address=address,
        node_id=this_process.boot,
    )
    session.call_id = began.id
    if version is None:
        plan = Plan(Do.OVERFLOW, "no profile is published")
    return replace(_follow(session, plan), began=began)


def _choose(session: PbxSession) -> int | None:
    """Note which version answers the call, so that it does when audio comes; None if there is none."""
    route = session.pbx.profile_for(session.callee, session.caller)
    try:
        chosen = choose_now(route, Asked(session.caller, session.callee, timezone.now()))
    except PromptProfile.DoesNotExist:
        session.profile = route
        return None
    session.profile, session.version = chosen.slug, chosen.number
    return chosen.version_id


def metadata_of(pbx: Pbx, step: Step) -> dict[str, Any]:
    """What is stored of a call besides who calls whom."""
    told: dict[str, Any] = {"pbx": pbx.name, "from": str(step.caller), "to": str(step.callee)}
    if step.caller.display:
        told["caller_name"] = step.caller.display
    if step.headers:
        told["sip_headers"] = dict(step.headers)
    return told


def _follow(session: PbxSession, plan: Plan) -> Answer:
    """Do what follows, and store that."""
    pbx, do, why = session.pbx, plan.do, plan.why
    within_s = pbx.timeout_ms / 1000
    if do is Do.BRIDGE and not admission.reserve(session.key, within_s + CONNECTS_WITHIN_S):
        do, why = Do.OVERFLOW, "this server has no room for another call"
    elif do is Do.BRIDGE and not plan.again:
        session.bridge(why)
    if do is Do.OVERFLOW and not plan.again:
        logger.warning("call %s of %s: %s", session.session_id[:40], pbx, why)
        do = _elsewhere(pbx)
    elif do is Do.SPEAK:
        do = _elsewhere(pbx, spoken_only=True)
    ended = None
    if do is not Do.BRIDGE and session.state == SessionState.BRIDGING:
        admission.release(session.key)
        ended = unanswered(session, EndReason.OVERFLOW, why)
    session.state = do.value
    session.save()
    awaited = session.pk if do is Do.BRIDGE else None
    return Answer(_body(do, pbx, session), awaited, session.bridges, within_s, ended=ended)


def _elsewhere(pbx: Pbx, *, spoken_only: bool = False) -> Do:
    """What is done with a call that cannot be answered."""
    if pbx.overflow_target and not spoken_only:
        return Do.OVERFLOW
    return Do.SPEAK if pbx.overflow_text.strip() else Do.HANG_UP


def _body(do: Do, pbx: Pbx, session: PbxSession | None = None) -> dict[str, Any]:
    match do:
        case Do.BRIDGE if session is not None:
            uri = ivr.bridge_uri(
                pbx.agent_url,
                rate=pbx.sample_rate,
                timeout_ms=pbx.timeout_ms,
                ticket=session.ticket,
                number=session.bridges,
            )
            return ivr.bridge(uri, pbx.return_target)
        case Do.TRANSFER if session is not None:
            return ivr.transfer(session.target)
        case Do.QUEUE if session is not None:
            return ivr.queue(session.target, pbx.return_target)
        case Do.OVERFLOW:
            return ivr.transfer(pbx.overflow_target)
        case Do.SPEAK:
            return ivr.speak(spoken.url(pbx.agent_url, pbx.overflow_text))
    return ivr.hang_up()


def unanswered(session: PbxSession, reason: EndReason, error: str = "") -> CallEnd | None:
    """The end of a call that never got an audio connection."""
    if session.call_id is None:
        return None
    return CallEnd(
        id=session.call_id,
        status=NOT_ANSWERED[reason],
        end_reason=reason,
        ended_at=timezone.now(),
        audio_in_s=0.0,
        audio_out_s=0.0,
        client_generation="",
        error=error,
    )


def ended(token: str, session_id: str, hung_up_by: str, reason: str) -> tuple[str, CallEnd | None]:
    """The PBX tells the end of a telephone call; return our key of it, and what is to be stored.

    The key of an unknown one is "". Raises Stranger, and what the database raises.
    """
    session = PbxSession.objects.end(known(token), session_id, hung_up_by, reason)
    if session is None:
        return "", None
    if session.state != SessionState.BRIDGING:
        return session.key, None
    admission.release(session.key)
    return session.key, unanswered(session, EndReason.DISCONNECT)
