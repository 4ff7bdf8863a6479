"""Turns that go on: their text grows word by word and is written at most once a second. No I/O."""

from uuid import UUID

from calls.models import TurnRow

INTERIM_S = 1.0  # between two writes of a turn that goes on

Key = tuple[UUID, int]


class InterimTurns:
    """Decides when a turn is written: at its beginning, once a second, and at once when it is final.

    Times are seconds of any clock that only rises. It keeps one row for each turn that goes on.
    """

    def __init__(self) -> None:
        self._written_at: dict[Key, float] = {}
        self._waiting: dict[Key, TurnRow] = {}

    def take(self, row: TurnRow, now: float) -> bool:
        """Whether to write the row now. If not, it waits, in place of the same turn's row that waited."""
        key = (row.session_id, row.index)
        if row.final:
            self._waiting.pop(key, None)
            self._written_at.pop(key, None)
            return True
        written_at = self._written_at.get(key)
        if written_at is not None and now - written_at < INTERIM_S:
            self._waiting[key] = row
            return False
        self._waiting.pop(key, None)
        self._written_at[key] = now
        return True

    @property
    def next_due(self) -> float | None:
        """When the first waiting row is to be written; None if none waits."""
        return min((self._written_at[key] + INTERIM_S for key in self._waiting), default=None)

    def due(self, now: float) -> list[TurnRow]:
        """Hand out the waiting rows whose second is over, to be written now."""
        keys = [key for key in self._waiting if self._written_at[key] + INTERIM_S <= now]
        for key in keys:
            self._written_at[key] += INTERIM_S
        return [self._waiting.pop(key) for key in keys]

    def forget(self, call_id: UUID) -> list[TurnRow]:
        """Hand out the waiting rows of a call that ends, and keep nothing of it."""
        for key in [key for key in self._written_at if key[0] == call_id]:
            del self._written_at[key]
        return [self._waiting.pop(key) for key in list(self._waiting) if key[0] == call_id]
