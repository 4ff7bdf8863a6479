"""How calls of a PBX are ended and handed on: by the answer to its next question, else over its APIs."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from calls.conversation.control import Refused
from calls.gateway.pbx import answering, database, later
from calls.gateway.pbx.memory import memory
from calls.gateway.pbx.watchdog import watchdog
from calls.models import Decision, Destination, DestinationKind, EndReason, PbxSession, SessionState
from calls.models.pbx_session import ASKS_WITHIN
from calls.rustpbx.api import ApiFailed, PbxApi

logger = logging.getLogger(__name__)

STORED_WITHIN_S = 1.0
OURS = {EndReason.SHUTDOWN: Decision.OVERFLOW, EndReason.ERROR: Decision.OVERFLOW}
THEIRS = {EndReason.DISCONNECT, EndReason.CLOSED}


@dataclass(frozen=True, slots=True)
class BridgeControl:
    """Of a call whose audio RustPBX has connected on our word, and which asks us again when that ends.

    Attributes:
        session, bridge: name the connection.
        session_id: the PBX's name for the call.
        by_name: where the call can be handed on to.
        api: the PBX's own.
        key: our name for the call.
    """

    session: int
    bridge: int
    session_id: str
    by_name: Mapping[str, Destination]
    api: PbxApi
    key: str = ""

    def destinations(self) -> Mapping[str, str]:
        """The PBX's destinations."""
        return {name: each.description or name for name, each in self.by_name.items()}

    async def end(self) -> None:
        """Have the PBX hang up when the connection ends; if that cannot be stored, at once."""
        if await self._decided(Decision.HANG_UP):
            return
        if not self.api.can_hang_up:
            raise Refused("the call is not this server's any more, and its PBX has no REST API that we know")
        try:
            await self.api.hang_up(self.session_id)
        except ApiFailed as e:
            raise Refused(str(e)) from e

    async def transfer(self, destination: str) -> None:
        """Have the PBX hand the call on when the connection ends."""
        to = self.by_name.get(destination)
        if to is None:
            raise Refused(f"expected a destination out of {', '.join(self.by_name)}, got {destination!r}")
        by_queue = to.kind == DestinationKind.QUEUE
        if not await self._decided(Decision.QUEUE if by_queue else Decision.TRANSFER, to):
            raise Refused("the call's connection has ended, or the database is away")

    async def leaving(self, reason: EndReason) -> None:
        """Our side is about to close the connection: nobody may be left in silence by that."""
        if reason in THEIRS:
            return
        watchdog.expect(self.session, self.bridge, ASKS_WITHIN.total_seconds(), SessionState.TALKING)
        decision = OURS.get(reason, Decision.HANG_UP)
        known = memory.recall(self.key)
        if known is not None and known.bridges == self.bridge and known.decision:
            return
        await self._decided(decision, work=PbxSession.objects.decide_if_open)

    async def _decided(
        self, decision: Decision, to: Destination | None = None, work: Callable[..., bool] | None = None
    ) -> bool:
        """Decide what the PBX is to be answered; what cannot be stored is remembered until it can."""
        decide = work or PbxSession.objects.decide
        stood = await self._stored(lambda: decide(self.session, self.bridge, decision, to))
        if stood is False:
            return False
        stands = memory.decide(self.key, self.bridge, decision, to, is_stored=stood is True)
        if stands and stood is None:
            later.again(lambda: database.run(lambda: answering.store(self.key)), "a call's decision")
        return stands or stood is True

    async def _stored(self, work: Callable[[], bool]) -> bool | None:
        """Whether it still stood; None if the database is away."""
        try:
            async with asyncio.timeout(STORED_WITHIN_S):
                return await database.run(work)
        except Exception as e:  # whatever ails the database, the call is to be ended somehow
            name = self.session_id[:40]
            logger.error("a decision about call %s was not stored yet: %s", name, type(e).__name__)
            return None


@dataclass(frozen=True, slots=True)
class ForkControl:
    """Of a call of RustPBX's fork, which never tells its name for it: it is found by when it was answered."""

    api: PbxApi
    answered_at: datetime

    def destinations(self) -> Mapping[str, str]:
        """None: the fork cannot hand calls on."""
        return {}

    async def end(self) -> None:
        """End the call, if it is the only one that was answered then."""
        if not self.api.url:
            raise Refused("the PBX's address is not known")
        try:
            await self.api.kill_answered_at(self.answered_at)
        except ApiFailed as e:
            raise Refused(str(e)) from e

    async def transfer(self, destination: str) -> None:
        """Refuse it."""
        raise Refused(f"this RustPBX cannot hand calls on, not to {destination!r} either")

    async def leaving(self, reason: EndReason) -> None:
        """Our side is about to close the connection: end the call, which would stay in silence."""
        if reason in THEIRS or reason is EndReason.AUDIO_STOPPED:
            return
        try:
            async with asyncio.timeout(STORED_WITHIN_S):
                await self.end()
        except (Refused, TimeoutError) as e:
            logger.info("a call of the fork was not hung up: %s", e)
