"""What can really be done with a PBX, tried out, and what its operator still has to set."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from django.utils import timezone

from calls.models import Pbx, PbxKind, PbxSession
from calls.models.sealing import Unreadable
from calls.rustpbx.api import ApiFailed, PbxApi

LATELY = timedelta(days=1)


class Verdict(StrEnum):
    """What a check came to; the word is a class of the page's, too."""

    GOOD = "good"
    BAD = "bad"
    UNKNOWN = "unknown"  # nobody can tell from here


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was tried: what, what came of it, and what to do."""

    what: str
    verdict: Verdict
    found: str


def check(pbx: Pbx) -> list[Check]:
    """Try everything out, within about three seconds. Nothing is changed at the PBX."""
    try:
        api = PbxApi.of(pbx)
    except Unreadable as e:
        return [Check("Its tokens", Verdict.BAD, f"They cannot be read: {e}. Enter them again.")]
    is_fork = pbx.kind == PbxKind.FORK
    tried = asyncio.run(_tried_at_fork(pbx, api) if is_fork else _tried(pbx, api))
    return tried if is_fork else [*tried, *_seen(pbx), *_unseen(pbx)]


async def _tried(pbx: Pbx, api: PbxApi) -> list[Check]:
    return list(await asyncio.gather(_our_address(pbx), _rest(api), _rwi(api)))


async def _tried_at_fork(pbx: Pbx, api: PbxApi) -> list[Check]:
    return list(await asyncio.gather(_our_address(pbx), _ami(api)))


async def _our_address(pbx: Pbx) -> Check:
    what = f"This server at {pbx.agent_url}"
    try:
        found = await PbxApi(pbx.agent_url).answers("/healthz")
    except ApiFailed as e:
        return Check(what, Verdict.BAD, f"It does not answer there, seen from itself: {e}.")
    if not found:
        return Check(what, Verdict.BAD, "Another server answers there: the address or the proxy is wrong.")
    return Check(what, Verdict.GOOD, "It answers, seen from itself.")


async def _rest(api: PbxApi) -> Check:
    what = "Hanging up over the REST API"
    if not api.can_hang_up:
        text = "Enter the PBX's address and REST API token; without them only its IVR ends calls."
        return Check(what, Verdict.BAD, text)
    try:
        calls = await api.active()
    except ApiFailed as e:
        return Check(what, Verdict.BAD, f"{e}. The token goes into [[console.api_tokens]].")
    return Check(what, Verdict.GOOD, f"It lets us in; calls there now: {calls}.")


async def _rwi(api: PbxApi) -> Check:
    what = "Getting back callers in silence, over RWI"
    if not api.can_send_back:
        text = "Enter the PBX's address and RWI token; without them a caller without audio is hung up on."
        return Check(what, Verdict.BAD, text)
    try:
        await api.check_rwi()
    except ApiFailed as e:
        return Check(what, Verdict.BAD, f"{e}. The token goes into [[rwi.tokens]].")
    return Check(what, Verdict.GOOD, "It lets us in.")


async def _ami(api: PbxApi) -> Check:
    what = "Hanging up over the fork's API"
    if not api.url:
        return Check(what, Verdict.BAD, "Enter the PBX's address; without it calls cannot be ended there.")
    try:
        if not await api.answers("/ami/v1/lists"):
            raise ApiFailed("/ami/v1/lists is not there")
    except ApiFailed as e:
        return Check(what, Verdict.BAD, f"{e}.")
    text = "It lists its calls. One is ended if no other was answered within the same 1.5 s."
    return Check(what, Verdict.GOOD, text)


def _seen(pbx: Pbx) -> list[Check]:
    """What its calls have shown."""
    sessions = PbxSession.objects.filter(pbx=pbx, started_at__gt=timezone.now() - LATELY)
    asked, told = sessions.exists(), sessions.exclude(hung_up_by="").exists()
    if not asked:
        waits = "No call within a day. Make one: see below."
        return [
            Check("Its IVR asks us", Verdict.UNKNOWN, waits),
            Check("It tells ends", Verdict.UNKNOWN, waits),
        ]
    untold = "Calls came, and no end of one was told: is [rwi_webhook] set?"
    ends = Check("It tells ends", Verdict.GOOD if told else Verdict.BAD, "It does." if told else untold)
    return [Check("Its IVR asks us", Verdict.GOOD, "It does."), ends]


def _unseen(pbx: Pbx) -> list[Check]:
    """What no PBX tells of itself."""
    sound = (
        "config/sounds/error.wav is not shipped with RustPBX: without it, or [proxy.ivr_fallback], callers "
        "are in silence for good while this server is down. Download it below, and call while it is stopped."
    )
    silence = (
        "RustPBX ends calls without a sound after rtp_timeout (60 s): raise it if callers are put on hold."
    )
    return [
        Check("Callers hear something when this server is down", Verdict.UNKNOWN, sound),
        Check("Muted telephones", Verdict.UNKNOWN, silence),
    ]
