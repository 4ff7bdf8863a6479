"""Callers in silence: audio that was to come and did not, a question not asked, a process that died.

RustPBX leaves them in silence for good. Its RWI sends them back to the IVR, which asks us; else they are hung
up on. Both are tried again for a minute.
"""

import asyncio
import logging
from contextlib import suppress

from django.utils import timezone

from calls.gateway import registry
from calls.gateway.pbx import database
from calls.gateway.pbx.answering import unanswered
from calls.models import EndReason, PbxSession, SessionState
from calls.models.pbx_session import MOST_RESCUES, TOLD_TO_END
from calls.models.sealing import Unreadable
from calls.recorder.writer import recorder
from calls.rustpbx.api import ApiFailed, PbxApi
from calls.tasks import Tasks

logger = logging.getLogger(__name__)

LOOK_S = 5.0  # after what other processes, dead by now, have left
AGAIN_S = 5.0
CLOSE_S = 1.0


class Watchdog:
    """Watches the calls of all PBXes. Lives on one event loop."""

    def __init__(self) -> None:
        self._timers: dict[int, asyncio.TimerHandle] = {}
        self._sent_back: set[int] = set()  # but nothing was asked since
        self._tasks = Tasks()
        self._looking: asyncio.Task[None] | None = None

    def expect(self, session: int, bridge: int, seconds: float, state: SessionState, tries: int = 0) -> None:
        """In so many seconds this session must not stand so any more; `tries` to help it have been made."""
        self._stop(session)
        registry.expect(session)
        loop = asyncio.get_running_loop()
        self._timers[session] = loop.call_later(seconds, self._due, session, bridge, state, tries)

    def forget(self, session: int) -> None:
        """What was expected of the session has come."""
        self._stop(session)
        self._sent_back.discard(session)
        registry.came(session)

    def start(self) -> None:
        """Look now and then for callers that other processes have left behind."""
        self._looking = asyncio.create_task(self._look(), name="pbx-watchdog")

    async def close(self) -> None:
        """Stop watching."""
        for session in list(self._timers):
            self.forget(session)
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
            self._looking = None
        self._tasks.cancel()
        await self._tasks.wait(CLOSE_S)
        registry.awaited.clear()

    def _stop(self, session: int) -> None:
        if timer := self._timers.pop(session, None):
            timer.cancel()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                for session in await database.run(_stranded):
                    await self._rescue(session)
            except Exception as e:  # the database is away: the next time may do
                logger.error("PBXes' calls could not be looked after: %s: %s", type(e).__name__, e)

    def _due(self, session: int, bridge: int, state: SessionState, tries: int) -> None:
        self._tasks.spawn(self._overdue(session, bridge, state, tries))

    async def _overdue(self, session: int, bridge: int, state: SessionState, tries: int = 0) -> None:
        """Help if it stands so, and look again."""
        timer = self._timers.get(session)
        try:
            found = await database.run(lambda: _standing(session, bridge, state))
            if found is not None:
                await self._rescue(found)
        except Exception as e:
            logger.error("a call could not be looked after: %s: %s", type(e).__name__, e)
            is_over = False
        else:
            is_over = found is None
        if self._timers.get(session) is not timer:
            return  # it has come meanwhile, and something else may be expected
        if is_over or tries >= MOST_RESCUES:
            self.forget(session)
        else:
            self.expect(session, bridge, AGAIN_S, state, tries + 1)

    async def _rescue(self, session: PbxSession) -> None:
        """Send the caller back to the IVR, else hang up; of several processes that try, one does."""
        now = timezone.now()
        if not await database.run(lambda: PbxSession.objects.rescue(session, now)):
            return
        if await self._helped(session) or session.state != SessionState.BRIDGING:
            return
        if (end := unanswered(session, EndReason.OVERFLOW, "no audio connection came about")) is not None:
            recorder().finish(end)

    async def _helped(self, session: PbxSession) -> bool:
        """Whether the caller is asked about again."""
        name, pbx = session.session_id[:40], session.pbx
        try:
            api = PbxApi.of(pbx)
        except Unreadable as e:
            logger.error("call %s of %s stays in silence: its tokens: %s", name, pbx, e)
            return False
        ways = [(api.can_send_back, "sent back", self._send_back), (api.can_hang_up, "hung up", _hang_up)]
        if session.pk in self._sent_back or session.state in TOLD_TO_END:
            ways.reverse()
        for can, way, order in ways:
            if not can:
                continue
            try:
                await order(session, api)
            except ApiFailed as e:
                logger.error("call %s of %s could not be %s: %s", name, pbx, way, e)
                continue
            logger.warning("call %s of %s heard nothing (%s): %s", name, pbx, session.state, way)
            return way == "sent back"
        logger.error("call %s of %s stays in silence: nothing can be done at its PBX", name, pbx)
        return False

    async def _send_back(self, session: PbxSession, api: PbxApi) -> None:
        self._sent_back.add(session.pk)  # the question may come before this returns
        try:
            await api.send_back(session.session_id, session.pbx.return_target)
        except ApiFailed:
            self._sent_back.discard(session.pk)
            raise


async def _hang_up(session: PbxSession, api: PbxApi) -> None:
    is_there = await api.hang_up(session.session_id)
    await database.run(lambda: PbxSession.objects.hung_up(session, is_there=is_there))


def _stranded() -> list[PbxSession]:
    return list(PbxSession.objects.stranded(timezone.now()).select_related("pbx")[:100])


def _standing(session: int, bridge: int, state: SessionState) -> PbxSession | None:
    standing = PbxSession.objects.filter(pk=session, bridges=bridge, state=state)
    return standing.select_related("pbx").first()


watchdog = Watchdog()
"""This process's."""
