"""The priority of threads that run models: below the event loop's."""

import os
import sys
import threading

NICENESS = 4  # two fifths of the event loop's CPU time, where both want the same core


def give_way() -> None:
    """Lower the priority of the current thread, so that models do not delay audio."""
    if sys.platform == "linux":  # elsewhere this would be the whole process's priority
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
