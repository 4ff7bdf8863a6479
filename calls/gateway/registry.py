"""The open connections and the calls of this process, and how they end when the process does.

A call that was transferred has no connection: it is parked, and goes on if the transfer fails.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from calls.audio.format import VoiceOut
from calls.conversation.call import Call
from calls.gateway.codes import GOING_AWAY
from calls.gateway.phase import Life
from calls.gateway.places import places
from calls.models import EndReason
from calls.process import this_process
from calls.tasks import Tasks

CLOSING_S = 2.5  # what a connection's end takes at most
ASKED_S = 10.0  # and until its PBX has asked what is next, which may have to be reminded
PARKED_S = 200.0  # RustPBX lets a transfer ring for 180 s; what was not back by then has been taken


class Registered(Protocol):
    """The parts of a connection that the registry uses."""

    life: Life

    def stop(self, reason: EndReason, code: int) -> None:
        """End the connection from our side."""

    async def say_goodbye(self, reason: EndReason) -> None:
        """Have the farewell spoken, then end the connection."""


live: set[Registered] = set()
"""The open connections of this process."""

awaited: set[int] = set()
"""Telephone calls between two connections, by their PBX's sessions: it is about to ask us or to connect."""

running: dict[UUID, Call] = {}
"""The calls of this process by their ids, parked ones included."""


@contextmanager
def registered(connection: Registered) -> Iterator[None]:
    """The connection is one of the open ones within the block; at its end nobody waits for it any more."""
    live.add(connection)
    _count()
    try:
        yield
    finally:
        live.discard(connection)
        _count()
        connection.life.leave(EndReason.CLOSED, GOING_AWAY)  # both do nothing for one that ran to its end
        connection.life.close()
        _gone()


def expect(session: int) -> None:
    """The PBX of this session is about to ask us, or to connect."""
    awaited.add(session)


def came(session: int) -> None:
    """It has, or will not."""
    awaited.discard(session)
    _gone()


async def ended(seconds: float, *, parked_too: bool = False) -> bool:
    """Wait until no call is open or on its way here, at most for `seconds`; whether none is.

    `parked_too`: until none is parked either.
    """
    changed = asyncio.Event()
    _waiting.add(changed)
    try:
        async with asyncio.timeout(seconds):
            while live or awaited or (parked_too and _parked):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        return False
    finally:
        _waiting.discard(changed)
    return True


_waiting: set[asyncio.Event] = set()


def _gone() -> None:
    for each in _waiting:
        each.set()


async def say_goodbye() -> None:
    """End every connection with the farewell, and return when they have ended and their PBXes have asked.

    Cancelling it breaks off.
    """
    async with asyncio.TaskGroup() as goodbyes:
        for connection in live:
            goodbyes.create_task(connection.say_goodbye(EndReason.DRAINED))
    await ended(ASKED_S)


async def shutdown() -> None:
    """End every connection and parked call of this process at once; wait for that, at most twice 2.5 s."""
    for connection in list(live):
        connection.stop(EndReason.SHUTDOWN, GOING_AWAY)
    parked = [asyncio.create_task(end_parked(key, EndReason.SHUTDOWN)) for key in list(_parked)]
    await ended(CLOSING_S)
    if parked:
        await asyncio.wait(parked, timeout=CLOSING_S)


# --- Parked calls -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Parked:
    call: Call
    generation: str  # of the client it had
    since: float  # by the event loop's clock
    timer: asyncio.TimerHandle


_parked: dict[str, _Parked] = {}
_endings = Tasks()


def park(key: str, call: Call, generation: str) -> None:
    """Keep a call that has left its socket, until it is taken or ended; after 200 s it ends by itself."""
    loop = asyncio.get_running_loop()

    def over(reason: EndReason, error: str = "") -> None:
        _endings.spawn(end_parked(key, reason, error))

    if earlier := _remove(key):
        _endings.spawn(_end(earlier, EndReason.NOT_BACK))
    call.park(over)
    timer = loop.call_later(PARKED_S, over, EndReason.NOT_BACK)
    _parked[key] = _Parked(call, generation, loop.time(), timer)
    places.keep(key, PARKED_S, None)  # for its own return


def take(key: str, voice: VoiceOut) -> Call | None:
    """The call parked under this key, if it speaks with such a voice; it is nobody else's from now on."""
    parked = _parked.get(key)
    if parked is None or parked.call.voice != voice:
        return None
    _remove(key)
    return parked.call


def is_parked(key: str) -> bool:
    """Whether a call is parked under this key, which has its place. For any thread."""
    return key in _parked


async def end_parked(key: str, reason: EndReason, error: str = "") -> None:
    """End the call parked under this key, as of when it was parked; nothing if there is none."""
    if parked := _remove(key):
        await _end(parked, reason, error)


async def _end(parked: _Parked, reason: EndReason, error: str = "") -> None:
    ago_s = asyncio.get_running_loop().time() - parked.since
    running.pop(parked.call.id, None)
    await parked.call.end(reason, parked.generation, error, ago_s)


def _remove(key: str) -> _Parked | None:
    parked = _parked.pop(key, None)
    if parked is not None:
        parked.timer.cancel()
        _gone()
        places.release(key)
    return parked


def _count() -> None:
    this_process.load.calls = len(live)
