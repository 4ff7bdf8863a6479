"""A stand-in for RustPBX: calls a voice agent as each client generation does, and measures the answer.

It works with any server that speaks the protocol, and imports nothing of this project's server.
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
