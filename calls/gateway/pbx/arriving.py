"""A connection's call as its PBX has announced it: by the ticket we gave it, or by naming its PBX."""

import asyncio
import logging
import uuid
from collections.abc import Mapping

from django.utils import timezone

from calls.gateway import admission, registry
from calls.gateway.arrival import UNANNOUNCED, Arrival
from calls.gateway.pbx import database
from calls.gateway.pbx.control import BridgeControl, ForkControl
from calls.gateway.pbx.first import first
from calls.gateway.pbx.memory import memory
from calls.gateway.pbx.watchdog import watchdog
from calls.models import Pbx, PbxSession
from calls.models.pbx_session import is_ours
from calls.process import this_process
from calls.rustpbx.api import PbxApi

logger = logging.getLogger(__name__)

READ_S = 2.0
TRIES, AGAIN_S = 6, 0.1
PBX = "pbx"  # the parameter by which the fork's calls name their PBX


async def arrive(query: Mapping[str, str]) -> Arrival | None:
    """Who comes with these parameters of the URL; None if its ticket opens nothing."""
    try:
        async with asyncio.timeout(READ_S):
            if admission.TICKET in query:
                ticket = query[admission.TICKET]
                return await _with_ticket(ticket) if is_ours(ticket) else None
            if (pbx := query.get(PBX, "")).isascii() and pbx.isdigit():
                return await _of_fork(int(pbx))
    except Exception as e:  # whatever ails the database
        logger.error("a PBX's call could not be looked up: %s: %s", type(e).__name__, e)
        return None if query.get(admission.TICKET) else UNANNOUNCED
    return UNANNOUNCED


async def _with_ticket(ticket: str) -> Arrival | None:
    session = await _redeem(ticket)
    if session is None:
        return None
    watchdog.forget(session.pk)
    admission.release(session.key)
    destinations = {each.name: each for each in session.pbx.destinations.all()}
    control = BridgeControl(
        session.pk, session.bridges, session.session_id, destinations, PbxApi.of(session.pbx), session.key
    )
    return Arrival(
        key=session.key,
        control=control,
        why_back=session.why,
        told={
            "call_id": None if registry.is_parked(session.key) else session.call_id,
            "room_id": session.session_id,
            "profile": session.profile or None,
            "version": session.version,
            "caller": session.caller,
            "callee": session.callee,
            "metadata": session.metadata,
        },
        leaving=control.leaving,
    )


async def _redeem(ticket: str) -> PbxSession | None:
    """Its session, which is perhaps being stored: by this process, or by another, unknown to this one."""
    tries = 1 if await first.stored(ticket) else TRIES
    while True:
        session = await database.run(lambda: _redeemed(ticket))
        tries -= 1
        if session is not None or not tries:
            return session
        await asyncio.sleep(AGAIN_S)


def _redeemed(ticket: str) -> PbxSession | None:
    session = PbxSession.objects.redeem(ticket, this_process.boot)
    if session is not None:
        if session.bridges > 1 and not registry.is_parked(session.key):
            session.begin_anew()
        memory.keep(session)
    return session


async def _of_fork(pk: int) -> Arrival:
    pbx = await database.run(lambda: Pbx.objects.filter(pk=pk).first())
    if pbx is None:
        return UNANNOUNCED
    control = ForkControl(PbxApi(pbx.console_url, pbx.api_token), timezone.now())
    return Arrival(key=f"fork:{uuid.uuid4()}", control=control, leaving=control.leaving)
