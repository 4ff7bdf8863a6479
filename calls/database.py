"""The database from the event loop: work runs in threads of its own, whose connections close with them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from channels.db import database_sync_to_async
from django.db import connections

T = TypeVar("T")

TOGETHER_S = 1.0  # until all threads have been reached that are to close


class DatabaseThreads:
    """Threads for work with the database, each with a connection of its own.

    Args:
        name: of the threads.
        count: how many at most.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self._count = count
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._closed = False

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in a thread. Raises what it raises; cancelling waits for nothing, the work goes on."""
        return await database_sync_to_async(work, thread_sensitive=False, executor=self._executor)()

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
