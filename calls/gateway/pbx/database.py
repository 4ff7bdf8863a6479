"""The database for a PBX's calls: threads of their own, and what is known when it is away."""

from collections.abc import Callable
from typing import TypeVar

from calls.database import DatabaseThreads

T = TypeVar("T")

THREADS = 2

_threads: DatabaseThreads | None = None


async def run(work: Callable[[], T]) -> T:
    """Do the work in a thread that may use the database. Raises what it raises."""
    global _threads  # noqa: PLW0603  one set for the process
    if _threads is None:
        _threads = DatabaseThreads("pbx", THREADS)
    return await _threads.run(work)


def close() -> None:
    """Close the threads; the next work makes others."""
    global _threads  # noqa: PLW0603  see run()
    if _threads is not None:
        _threads.close()
        _threads = None
