"""How many calls this process carries at once: MAX_CALLS or, if that is 0, what was measured.

With providers elsewhere one core carries 75 of RustPBX's own clients (docs/performance.md). The embedded
models are slower when many callers end their sentences at once: docs/operations.md, "How many calls".
"""

import logging
import os

from django.conf import settings

from calls.process import Load, this_process
from calls.profiles import choosing

logger = logging.getLogger(__name__)

ON_ONE_CORE = 75
EMBEDDED_PER_CORE = 8


def look() -> Load:
    """Work out how many calls this process takes now and return its load.

    For a thread that may use the database; if that does not answer, the figure stays.
    """
    most = this_process.load.most or ON_ONE_CORE
    try:
        most = settings.MAX_CALLS or _measured(choosing.any_embedded())
    except Exception as e:
        logger.error("the profiles could not be read: %s: %s", type(e).__name__, e)
    if most != this_process.load.most:
        logger.info("this server takes %d calls at once", most)
    this_process.load.most = most
    return this_process.load


def _measured(embedded: bool) -> int:
    return min(ON_ONE_CORE, EMBEDDED_PER_CORE * cores()) if embedded else ON_ONE_CORE


def cores() -> int:
    """How many cores the process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
