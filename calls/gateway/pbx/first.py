"""The first question of a call, answered at once: it is stored while the PBX connects the audio.

What is answered is what the database will say, too: the ticket follows from the call's name. Should it say
something else (the call is known to another process, no profile is published), the ticket opens nothing, the
PBX asks again, and is told that.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any

from calls.gateway import admission
from calls.gateway.pbx import answering, database, pbxes
from calls.gateway.pbx.memory import memory
from calls.gateway.pbx.question import Question
from calls.models import Pbx, PbxSession
from calls.models.pbx_session import SESSION_CHARS
from calls.profiles import choosing
from calls.rustpbx import ivr
from calls.tasks import Tasks

logger = logging.getLogger(__name__)

READ_EVERY_S = 1.0  # the PBXes, while they ask: what is answered here is known to be fresh
ASKING_S = 60.0
CLOSE_S = 1.0


class FirstAnswers:
    """Those of this process. Lives on one event loop."""

    def __init__(self) -> None:
        self._stored: dict[str, asyncio.Task[None]] = {}  # by the ticket that was given
        self._asked_at = 0.0
        self._reading: asyncio.Task[None] | None = None
        self._tasks = Tasks()

    def ticket(self, question: Question) -> tuple[Pbx, str] | None:
        """Return the PBX and the ticket that its new call is given; None if the database has to be asked."""
        pbx = pbxes.fresh(question.token)
        if pbx is None or not choosing.is_any_known():
            return None
        try:
            step = answering.decoded(question, pbx)
        except ivr.Unusable:
            return None
        session = PbxSession(pbx=pbx, session_id=step.session_id, bridges=1)
        if not step.is_first or len(step.session_id) > SESSION_CHARS or memory.recall(session.key):
            return None
        if admission.no_room() or not answering.has_room(session):
            return None
        return pbx, session.ticket

    def store(self, ticket: str, work: Coroutine[Any, Any, None]) -> None:
        """Store what was answered, in the background."""
        task = self._tasks.spawn(work)
        self._stored[ticket] = task
        task.add_done_callback(lambda _task: self._stored.pop(ticket, None))

    async def stored(self, ticket: str | None = None) -> bool:
        """Wait until this (None: all) is stored or has failed; whether there was something to wait for."""
        waited = [task for each, task in self._stored.items() if ticket in (None, each)]
        if waited:
            await asyncio.wait(waited)
        return bool(waited)

    def asked(self) -> None:
        """A PBX has asked: what is known of them is kept fresh for a while."""
        self._asked_at = time.monotonic()
        if self._reading is None or self._reading.done():
            self._reading = self._tasks.spawn(self._read())

    async def close(self) -> None:
        """Store what is left, within a second."""
        if self._reading is not None:
            self._reading.cancel()
        await self._tasks.wait(CLOSE_S)
        self._tasks.cancel()

    async def _read(self) -> None:
        while time.monotonic() - self._asked_at < ASKING_S:
            await asyncio.sleep(READ_EVERY_S)
            try:
                await database.run(pbxes.read)
            except Exception as e:  # whatever ails the database, which is asked then
                pbxes.forget()
                logger.error("the PBXes could not be read: %s: %s", type(e).__name__, e)


first = FirstAnswers()
"""This process's."""
