"""The end of a telephone call, as its PBX tells it."""

import asyncio
import json
import logging

from calls.gateway import admission, registry
from calls.gateway.pbx import database, later, pbxes
from calls.gateway.pbx.answering import unanswered
from calls.gateway.pbx.first import first
from calls.gateway.pbx.memory import key_of, memory
from calls.gateway.pbx.question import Stranger
from calls.gateway.pbx.watchdog import watchdog
from calls.models import EndReason, PbxSession, SessionState
from calls.recorder.writer import recorder

logger = logging.getLogger(__name__)


async def told(token: str, body: bytes, within_s: float) -> bool:
    """Store the end that this message tells of, if it does; what takes longer is done in the background.

    Returns whether the message is taken. Raises Stranger.
    """
    noting = asyncio.ensure_future(_note(token, body))
    done, _ = await asyncio.wait({noting}, timeout=within_s)
    error = noting.exception() if done else TimeoutError("the database takes too long")
    if error is None:
        return True
    if isinstance(error, Stranger):
        raise error
    logger.error("the end of a call was not stored yet: %s: %s", type(error).__name__, error)
    pbx = pbxes.remembered(token)
    if pbx is None:
        noting.cancel()
        return False
    if end := _end_of_call(body):
        await registry.end_parked(key_of(pbx, end[0]), EndReason.DISCONNECT)
    later.again(lambda: _note(token, body), "the end of a telephone call", begun=None if done else noting)
    return True


async def _note(token: str, body: bytes) -> None:
    await first.stored()
    before = await database.run(lambda: _ended(token, body))
    if before is None:
        return
    watchdog.forget(before.pk)
    memory.forget(before.key)
    if before.state == SessionState.BRIDGING:
        admission.release(before.key)
        if (end := unanswered(before, EndReason.DISCONNECT)) is not None:
            recorder().finish(end)
    await registry.end_parked(before.key, EndReason.DISCONNECT)


def _ended(token: str, body: bytes) -> PbxSession | None:
    """End the session and return it as it was before; None if it is unknown, or no end was told."""
    pbx = pbxes.known(token)  # a stranger's body is not read
    end = _end_of_call(body)
    return PbxSession.objects.end(pbx, *end) if end else None


def _end_of_call(body: bytes) -> tuple[str, str, str] | None:
    """The call, who hung up and why, of a message that tells of an end; None of another."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or data.get("event_type") != "call_hangup":
        return None
    event = data["event"] if isinstance(data.get("event"), dict) else {}
    told = (data.get("call_id"), event.get("hangup_by"), event.get("reason"))
    call, by, why = (value.replace("\x00", "") if isinstance(value, str) else "" for value in told)
    return (call, by, why) if call else None
