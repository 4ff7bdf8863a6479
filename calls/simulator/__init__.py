"""A stand-in for RustPBX: calls a voice agent as each client generation would, and measures what comes back.

It works against any server that speaks the protocol and knows nothing of this project's own.
"""

from calls.simulator.call import Event, call_url, run_call
from calls.simulator.clients import GENERATIONS
from calls.simulator.outcome import CallReport
from calls.simulator.script import Interrupt, Say, Send, Step, Wait, WaitForAgent

__all__ = [
    "GENERATIONS",
    "CallReport",
    "Event",
    "Interrupt",
    "Say",
    "Send",
    "Step",
    "Wait",
    "WaitForAgent",
    "call_url",
    "run_call",
]
