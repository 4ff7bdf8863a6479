"""The database from the event loop: work runs in threads of its own, which keep their connections.

The pages' connections close with each page; these belong to the calls, and no page can take them.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from asgiref.sync import sync_to_async
from django.db import Error, OperationalError, connection, connections

T = TypeVar("T")

TOGETHER_S = 1.0  # until all threads have been reached that are to close
KEPT_S = 60.0  # then a connection is made anew: what lies between may forget one that is silent


class DatabaseThreads:
    """Threads for work with the database, each with a connection of its own.

    Args:
        name: of the threads.
        count: how many at most.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self._count = count
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._opened = threading.local()
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. Raises what it raises; cancelling waits for nothing, the work goes on."""
        return await sync_to_async(self._work, thread_sensitive=False, executor=self._executor)(work)

    def close(self) -> None:
        """Close the connections after the work at hand and end the threads, without waiting. Idempotent."""
        if self._closed:
            return
        self._closed = True
        together = threading.Barrier(self._count)

        def close() -> None:
            with suppress(threading.BrokenBarrierError):  # so that no thread closes for another
                together.wait(TOGETHER_S)
            connections.close_all()

        for _ in range(self._count):
            self._executor.submit(close)
        self._executor.shutdown(wait=False)

    def _work(self, work: Callable[[], T]) -> T:
        self._open()
        try:
            return work()
        except Error:
            connection.close()  # whatever it was, the next work begins with a connection that is sound
            raise

    def _open(self) -> None:
        """Make the connection anew if it is old, or if the file of its SQLite database is another by now."""
        file = file_of_database()
        now = time.monotonic()
        if connection.connection is not None and (
            now - self._opened.at > KEPT_S or (file is not None and file != self._opened.file)
        ):
            connection.close()
        if connection.connection is None:
            self._opened.at, self._opened.file = now, file


def file_of_database() -> tuple[int, int] | None:
    """What tells the file of a SQLite database from another in its place; None for other databases.

    Raises OperationalError if it cannot be had: SQLite would go on with a file that nobody else can open, or
    make an empty one.
    """
    name = str(connection.settings_dict["NAME"])
    if connection.vendor != "sqlite" or "mode=memory" in name:
        return None
    try:
        found = os.stat(name)
    except OSError as e:
        connection.close()
        why = "is gone" if isinstance(e, FileNotFoundError) else f"cannot be reached: {e.strerror}"
        raise OperationalError(f"the database file {name} {why}") from None
    return found.st_dev, found.st_ino
