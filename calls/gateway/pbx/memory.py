"""What this process knows of its PBXes' calls without the database, and what it could not store of them yet.

What could not be stored counts for more than the row, and is stored as soon as that can be done.
"""

import copy
import threading
from collections import OrderedDict

from calls.models import Decision, Destination, Pbx, PbxSession, SessionState
from calls.models.pbx_session import session_key

MOST = 5_000  # calls; of more the oldest are forgotten
# What may be newer here than in the row.
FIELDS = ("call_id", "state", "bridges", "decision", "destination", "target", "why", "told_at", "rescues")
FIELDS_OF_TICKET = ("ticket_hash", "expires_at")


class Memory:
    """The sessions by their keys. For any thread; what is given out is a copy."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, PbxSession] = OrderedDict()
        self._unstored: set[str] = set()

    def keep(self, session: PbxSession, *, is_stored: bool = True) -> None:
        """The session stands so; whether its row says the same."""
        with self._lock:
            self._keep(copy.copy(session), is_stored)

    def recall(self, key: str) -> PbxSession | None:
        """The session as it was known last."""
        with self._lock:
            found = self._sessions.get(key)
            return copy.copy(found) if found is not None else None

    def newer(self, row: PbxSession | None, key: str) -> PbxSession | None:
        """The session as it stands: its row with what could not be stored."""
        with self._lock:
            found = copy.copy(self._sessions[key]) if key in self._unstored else None
        if found is None or (row is not None and row.state == SessionState.ENDED):
            return row
        if row is None:
            return found
        for name in (*FIELDS, *FIELDS_OF_TICKET):
            setattr(row, name, getattr(found, name))
        return row

    def decide(
        self, key: str, bridge: int, decision: Decision, to: Destination | None = None, *, is_stored: bool
    ) -> bool:
        """The conversation has decided what follows this bridge; whether it is known to stand."""
        with self._lock:
            found = self._sessions.get(key)
            if found is None or (found.state, found.bridges) != (SessionState.TALKING, bridge):
                return False
            found.decision = decision
            found.destination, found.target = (to.name, to.target) if to else ("", "")
            self._keep(found, is_stored)
            return True

    def forget(self, key: str) -> None:
        """The telephone call is over."""
        with self._lock:
            self._sessions.pop(key, None)
            self._unstored.discard(key)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._sessions.clear()
            self._unstored.clear()

    def _keep(self, session: PbxSession, is_stored: bool) -> None:
        key = session.key
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        (self._unstored.discard if is_stored else self._unstored.add)(key)
        while len(self._sessions) > MOST:
            self._unstored.discard(self._sessions.popitem(last=False)[0])


def key_of(pbx: Pbx, session_id: str) -> str:
    """The key of the session that the PBX names so."""
    return PbxSession(pbx=pbx, session_id=session_key(session_id)).key


memory = Memory()
"""This process's."""
