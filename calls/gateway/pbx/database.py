"""The database for a PBX's calls: threads of their own, and what is known when it is away."""

from collections.abc import Callable
from typing import TypeVar

from calls.database import DatabaseThreads

T = TypeVar("T")

QUESTIONS, SOUNDS = "pbx", "pbx-sounds"  # sounds are for anybody, and take a second to be made
THREADS = {QUESTIONS: 2, SOUNDS: 1}

_threads: dict[str, DatabaseThreads] = {}


async def run(work: Callable[[], T], threads: str = QUESTIONS) -> T:
    """Do the work in one of these threads, which may use the database. Raises what it raises."""
    if threads not in _threads:
        _threads[threads] = DatabaseThreads(threads, THREADS[threads])
    return await _threads[threads].run(work)


def close() -> None:
    """Close the threads; the next work makes others."""
    while _threads:
        _threads.popitem()[1].close()
