"""A question of a PBX's IVR: whose it is, where the call stands, the answer. For database threads."""

import logging
import uuid
from contextlib import suppress
from dataclasses import replace
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from calls.gateway import admission, registry
from calls.gateway.pbx import pbxes, spoken
from calls.gateway.pbx.memory import key_of, memory
from calls.gateway.pbx.question import Answer, Question, Stranger, TooLate
from calls.models import (
    Asked,
    CallEnd,
    CallStart,
    CallStatus,
    Description,
    EndReason,
    Node,
    Pbx,
    PbxSession,
    PromptProfile,
    SessionState,
)
from calls.models.pbx_session import SESSION_CHARS, session_key
from calls.process import this_process
from calls.profiles.choosing import choose_now
from calls.rustpbx import ivr
from calls.rustpbx.ivr import Do, Plan, Standing, Step

logger = logging.getLogger(__name__)

CONNECTS_WITHIN_S = 2.0  # beyond the PBX's own bound a place is kept and a ticket is valid
NOT_ANSWERED = {EndReason.OVERFLOW: CallStatus.FAILED, EndReason.DISCONNECT: CallStatus.COMPLETED}


def get_ready() -> None:
    """Read what the first question needs. Raises what the database raises."""
    with suppress(Stranger):
        pbxes.known("")
    with suppress(PromptProfile.DoesNotExist):
        choose_now("", Asked("", "", timezone.now()))


def answer(question: Question) -> Answer:
    """Answer from the database. Raises Stranger, TooLate, and what the database raises."""
    pbx = pbxes.known(question.token)
    try:
        step = decoded(question, pbx)
    except ivr.Unusable as e:
        logger.warning("%s asked what cannot be answered: %s", pbx, e)
        return Answer(ivr.hang_up())
    try:
        return _answer(question, pbx, step)
    except IntegrityError:  # asked twice at the same time: the other was first
        return _answer(question, pbx, step)


def decoded(question: Question, pbx: Pbx) -> Step:
    """What is asked. Raises ivr.Unusable."""
    step = ivr.decode(question.body, pbx.headers_to_keep)
    return replace(step, event="fail") if question.has_failed else step


def _answer(question: Question, pbx: Pbx, step: Step) -> Answer:
    key = key_of(pbx, step.session_id)
    with transaction.atomic():
        session = memory.newer(PbxSession.objects.at(pbx, step.session_id), key)
        if session is None:
            session, answer = _of_new(pbx, step, question.address)
        else:
            session.pbx, session.node_id = pbx, _this_node()
            answer = _of_known(session, step)
        if not question.settle():
            admission.release(key)
            raise TooLate
    if session is not None:
        question.keep(session)
    return answer


def _of_known(session: PbxSession, step: Step, *, is_stored: bool = True) -> Answer:
    if session.state == SessionState.ENDED:
        return Answer(ivr.hang_up())
    standing = Standing(session.state, session.bridges, session.decision, session.destination)
    answer = _follow(session, ivr.plan(step, standing), is_stored=is_stored)
    return replace(answer, taken=session.key) if step.connected else answer


def without_database(question: Question) -> Answer:
    """Answer from what is remembered, as nothing can be read or stored.

    Of a token that is not known yet nobody can tell whose it is: the call ends, which is better than silence.
    """
    pbx = pbxes.remembered(question.token)
    if pbx is None:
        return Answer(ivr.hang_up())
    try:
        step = decoded(question, pbx)
    except ivr.Unusable:
        return Answer(ivr.hang_up())
    session = memory.recall(key_of(pbx, step.session_id))
    if session is not None:
        session.pbx = pbx
        answer = _of_known(session, step, is_stored=False)
    else:
        session, answer = _of_new(pbx, step, question.address, is_stored=False)
    if session is None or session.state == SessionState.ENDED:
        return answer
    memory.keep(session, is_stored=False)
    return replace(answer, unstored=session.key)


def store(key: str) -> None:
    """Store what was answered and decided without the database. Raises what the database raises."""
    known = memory.recall(key)
    if known is None:
        return
    with transaction.atomic():
        session = memory.newer(PbxSession.objects.at(known.pbx, known.session_id), key)
        if session is None or session.state == SessionState.ENDED:
            return
        session.save()
    memory.keep(session)


def _of_new(
    pbx: Pbx, step: Step, address: str, *, is_stored: bool = True
) -> tuple[PbxSession | None, Answer]:
    plan = ivr.plan(step, None)
    if plan.do is not Do.BRIDGE:
        return None, Answer(_body(_elsewhere(pbx, spoken_only=True) if plan.do is Do.SPEAK else plan.do, pbx))
    session = PbxSession(
        pbx=pbx,
        session_id=session_key(step.session_id),
        caller=step.caller.name[:255],
        callee=step.callee.name[:255],
        metadata={"pbx": pbx.name, **step.metadata},
        state=SessionState.BRIDGING,
    )
    version = _choose(session) if is_stored else None
    if not is_stored:
        session.profile = pbx.profile_for(session.callee, session.caller)
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
    session.node_id = _this_node() if is_stored else None
    if len(step.session_id) > SESSION_CHARS:  # by which nothing could be done for it later
        plan = Plan(Do.OVERFLOW, f"expected a session_id of at most {SESSION_CHARS} characters, got more")
    elif version is None and is_stored:
        plan = Plan(Do.OVERFLOW, "no profile is published")
    return session, replace(_follow(session, plan, is_stored=is_stored), began=began)


def _this_node() -> uuid.UUID | None:
    return this_process.boot if Node.objects.filter(pk=this_process.boot).exists() else None


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


def _follow(session: PbxSession, plan: Plan, *, is_stored: bool) -> Answer:
    """Do what follows, and store that. Without the database no audio can be connected."""
    pbx, do, why = session.pbx, plan.do, plan.why
    within_s = pbx.timeout_ms / 1000
    is_again = plan.again
    if do is Do.BRIDGE and not is_stored:
        do, why, is_again = Do.OVERFLOW, "the database is away or slow", False
    elif do is Do.BRIDGE and not (_is_kept(session) or has_room(session)):
        do, why = Do.OVERFLOW, "this server has no room for another call"
    elif do is Do.BRIDGE and not is_again:
        session.bridge(why)
    if do is Do.OVERFLOW and not is_again:
        logger.warning("call %s of %s: %s", session.session_id[:40], pbx, why)
        do = _elsewhere(pbx)
    elif do is Do.SPEAK:
        do = _elsewhere(pbx, spoken_only=True)
    ended = None
    if do is not Do.BRIDGE and session.state == SessionState.BRIDGING:
        admission.release(session.key)
        ended = unanswered(session, EndReason.OVERFLOW, why)
    session.told(do.value)
    if is_stored:
        session.save()
    awaited = session.pk if do is Do.BRIDGE else None
    body = _body(do, pbx, session)
    return Answer(body, awaited, session.bridges, within_s, asked=session.pk, ended=ended)


def has_room(session: PbxSession) -> bool:
    """Keep a place for the call until it has connected; whether there is one."""
    return admission.reserve(session.key, session.pbx.timeout_ms / 1000 + CONNECTS_WITHIN_S)


def _is_kept(session: PbxSession) -> bool:
    """Whether the call is still here, and so goes on also while this process takes no other."""
    return registry.is_parked(session.key)


def _elsewhere(pbx: Pbx, *, spoken_only: bool = False) -> Do:
    """What is done with a call that cannot be answered."""
    if pbx.overflow_target and not spoken_only:
        return Do.OVERFLOW
    return Do.SPEAK if pbx.overflow_text.strip() else Do.HANG_UP


def _body(do: Do, pbx: Pbx, session: PbxSession | None = None) -> dict[str, Any]:
    match do:
        case Do.BRIDGE if session is not None:
            return bridge(pbx, session.ticket, session.bridges)
        case Do.TRANSFER if session is not None:
            return ivr.transfer(session.target)
        case Do.QUEUE if session is not None:
            return ivr.queue(session.target, pbx.return_target)
        case Do.OVERFLOW:
            return ivr.transfer(pbx.overflow_target)
        case Do.SPEAK:
            return ivr.speak(spoken.url(pbx.agent_url, pbx.overflow_text))
    return ivr.hang_up()


def bridge(pbx: Pbx, ticket: str, number: int) -> dict[str, Any]:
    """Tell it to connect the call's audio, for so many times by now."""
    uri = ivr.bridge_uri(
        pbx.agent_url, rate=pbx.sample_rate, timeout_ms=pbx.timeout_ms, ticket=ticket, number=number
    )
    return ivr.bridge(uri, pbx.return_target)


def unanswered(session: PbxSession, reason: EndReason, error: str = "") -> CallEnd | None:
    """The end of a call that never got an audio connection."""
    if session.call_id is None or session.bridges > 1:  # which has ended by itself, or is kept
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
