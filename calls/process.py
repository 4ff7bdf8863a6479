"""The state of this process, which admission, /readyz, shutdown and pages read. Nothing else decides it."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from enum import Enum


class State(Enum):
    """Where a serving process is in its life."""

    STARTING = "starting"  # models are loading: no calls yet
    ACCEPTING = "accepting"
    DRAINING = "draining"  # running calls go on, no new ones
    STOPPED = "stopped"


_NEXT = {
    State.STARTING: {State.ACCEPTING, State.STOPPED},
    State.ACCEPTING: {State.DRAINING, State.STOPPED},
    State.DRAINING: {State.STOPPED},
    State.STOPPED: {State.STARTING},  # a server that starts again in the same process, as tests do
}


@dataclass(slots=True)
class Load:
    """How many calls a process has, how many it takes (None: not bounded), how many it had no room for."""

    calls: int = 0
    most: int | None = None
    refused: int = 0
    refused_at: datetime | None = None


class IllegalMove(RuntimeError):
    """A state that does not follow on the present one."""


class Process:
    """This process: its state, its load, and the boot that tells it from another of the same name."""

    def __init__(self) -> None:
        self.boot = uuid.uuid4()
        self.load = Load()
        self._state = State.STARTING

    @property
    def state(self) -> State:
        """The present state."""
        return self._state

    @property
    def is_ending(self) -> bool:
        """Whether new calls are refused because the process is about to end."""
        return self._state in (State.DRAINING, State.STOPPED)

    @property
    def is_accepting(self) -> bool:
        """Whether new calls are taken."""
        return self._state is State.ACCEPTING

    def move(self, state: State) -> None:
        """Go on to `state`; to the present one is no move. A start begins a new boot.

        Raises:
            IllegalMove: `state` does not follow on the present one.
        """
        if state is self._state:
            return
        if state not in _NEXT[self._state]:
            raise IllegalMove(f"a process that is {self._state.value} cannot become {state.value}")
        if state is State.STARTING:
            self.boot = uuid.uuid4()
        self._state = state


this_process = Process()
