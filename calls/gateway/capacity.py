"""How many calls this process carries at once: MAX_CALLS or, if that is 0, what was measured.

With providers elsewhere one core carries 75 of RustPBX's own clients (docs/performance.md). The embedded
models are slower when many callers end their sentences at once: docs/operations.md, "How many calls".
"""

import logging
import os

from django.conf import settings

from calls.profiles import choosing

logger = logging.getLogger(__name__)

ON_ONE_CORE = 75
EMBEDDED_PER_CORE = 8

_embedded = False


def most_calls() -> int:
    """How many calls the process takes at once."""
    if settings.MAX_CALLS:
        return int(settings.MAX_CALLS)
    return min(ON_ONE_CORE, EMBEDDED_PER_CORE * cores()) if _embedded else ON_ONE_CORE


def cores() -> int:
    """How many cores the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def look() -> int:
    """Read whether any published profile uses an embedded model; how many calls the process takes then.

    For a thread that may use the database. Raises what the database raises.
    """
    global _embedded  # noqa: PLW0603  one process, one capacity
    before = most_calls()
    _embedded = choosing.any_embedded()
    if most_calls() != before:
        logger.info("this server takes %d calls at once", most_calls())
    return most_calls()
