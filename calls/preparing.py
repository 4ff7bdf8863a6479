"""One process prepares at a time: of two that start for the first time at once, the second waits."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.core.files import locks
from django.db import Error, connection, connections

WAIT_S = 120.0
LOOK_AGAIN_S = 0.1
KEY = 0x766F6963  # of our advisory lock in PostgreSQL: any number that others do not use


class StillLocked(Exception):
    """Another process has been preparing for two minutes."""


@contextmanager
def alone(waiting: Callable[[], None]) -> Iterator[None]:
    """No other process prepares this DATA_DIR, or this PostgreSQL database, within the block.

    Args:
        waiting: is called once if there is another one, before it is waited for.

    Raises:
        StillLocked: it took more than two minutes.
        Error: what the database raises.
    """
    deadline = time.monotonic() + WAIT_S
    with ExitStack() as held:
        takers = [held.enter_context(_file(Path(settings.DATA_DIR) / "prepare.lock"))]
        if connection.vendor == "postgresql":
            takers.append(held.enter_context(_advisory()))
        told = False
        for take in takers:
            while not take():
                if not told:
                    told = True
                    waiting()
                if time.monotonic() > deadline:
                    raise StillLocked(f"another process has been preparing the database for {WAIT_S:.0f} s")
                time.sleep(LOOK_AGAIN_S)
        yield


@contextmanager
def _file(path: Path) -> Iterator[Callable[[], bool]]:
    """A lock that the system takes back when the process ends, however it does."""
    with path.open("w") as file:
        yield lambda: locks.lock(file, locks.LOCK_EX | locks.LOCK_NB)


@contextmanager
def _advisory() -> Iterator[Callable[[], bool]]:
    """A lock of PostgreSQL, over a connection of its own that holds it while the other one migrates.

    It is a transaction's, not a session's: pgbouncer may give a session to others between transactions.
    """
    own = connections.create_connection(connection.alias)

    def take() -> bool:
        with own.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [KEY])
            return bool(cursor.fetchone()[0])

    try:
        own.set_autocommit(False)
        yield take
    finally:
        with suppress(Error):  # of a connection that is lost, and the lock with it
            own.rollback()
        own.close()
