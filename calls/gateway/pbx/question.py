"""A question of a PBX's, and the one answer it gets."""

import threading
from dataclasses import dataclass, field
from typing import Any

from calls.gateway.pbx.memory import memory
from calls.models import CallEnd, CallStart, PbxSession


@dataclass(frozen=True, slots=True)
class Answer:
    """What the PBX is told, and what is to be done besides.

    Attributes:
        body: what it is told.
        session, bridge, within_s: name the audio connection that is to come, and when, if one is.
        asked: the session that was asked about, if there is one.
        taken: our key of a call that was handed on and talked to somebody there.
        unstored: our key of a call of which this could not be stored.
        began, ended: are to be stored of the call.
    """

    body: dict[str, Any]
    session: int | None = None
    bridge: int = 0
    within_s: float = 0.0
    asked: int | None = None
    taken: str = ""
    unstored: str = ""
    began: CallStart | None = None
    ended: CallEnd | None = None


class Stranger(Exception):
    """The token is nobody's."""


class TooLate(Exception):
    """Something else was answered meanwhile."""


@dataclass(slots=True)
class Question:
    """What a PBX asks. It is answered once: from the database, or without it when that takes too long.

    Attributes:
        token, body, address: of the request.
        has_failed: whether it was asked as what was answered could not be begun.
    """

    token: str
    body: bytes
    address: str = ""
    has_failed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _is_settled: bool = False
    _is_given_up: bool = False

    def settle(self) -> bool:
        """The answer is about to be stored; whether it is still wanted."""
        with self._lock:
            self._is_settled = not self._is_given_up
            return self._is_settled

    def give_up(self, *, settled_too: bool = False) -> bool:
        """Nobody waits for the database any more; whether that was in time for nothing to be stored.

        `settled_too`: also if it was not.
        """
        with self._lock:
            self._is_given_up = settled_too or not self._is_settled
            return self._is_given_up

    def keep(self, session: PbxSession) -> None:
        """Remember what was stored, unless something else was answered."""
        with self._lock:
            if not self._is_given_up:
                memory.keep(session)
