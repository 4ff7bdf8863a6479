"""How threads that run models give way to the event loop."""

import os
import sys
import threading

NICENESS = 4  # two fifths of the event loop's share where both want the same core


def give_way() -> None:
    """Let the event loop run first where this thread and it want the same core: audio waits for no model."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
