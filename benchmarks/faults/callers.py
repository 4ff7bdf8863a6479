"""Callers who remember what they were told, and call again when they are cut off."""

import asyncio
import ctypes
import random
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

from benchmarks.client import Caller, Clock
from benchmarks.figures import REPLY
from benchmarks.load import LEAD_S, PATH
from benchmarks.speech import scripts

ANSWER = REPLY.partition(".")[0]  # the sentence that only a whole turn brings: heard, thought, spoken
REDIAL_S = 1.0
RAMP_S = 0.3
SO_ATTACH_FILTER = 26
DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)  # a BPF program of one instruction: return 0


@dataclass(frozen=True, slots=True)
class Told:
    """Something final that a client was told, and when (monotonic): what one of the two said."""

    at: float
    speaker: str
    text: str


class Witness(Caller):
    """A caller that remembers what is final: the finished words of both sides, and its call's id."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.call_id = ""
        self.told: list[Told] = []
        self.answers: list[float] = []  # when a right answer began
        self.placed = time.monotonic()
        self.ended_at = 0.0
        self.unreachable = False
        self.server_clock = 0.0  # seconds the server's wall clock is ahead of ours

    def _on_message(self, message: dict[str, Any], now: float) -> None:
        super()._on_message(message, now)
        text = message.get("text", "")
        if message["type"] == "ping":
            self.server_clock = message["timestamp"] / 1000 - time.time()
        match message["type"]:
            case "configured":
                self.call_id = message["call_id"]
            case "transcription" if message["is_final"] and text:
                self.told.append(Told(now, "caller", text))
            case "tts_completed" if text:
                self.told.append(Told(now, "agent", text))
            case "tts_started" if text.startswith(ANSWER):
                self.answers.append(now)

    def connection_lost(self, exc: Exception | None) -> None:
        """Closed, by us or by them."""
        self.ended_at = time.monotonic()
        super().connection_lost(exc)

    @property
    def talks(self) -> bool:
        """Whether the call is going on."""
        return bool(self.call_id) and not self.hanging_up and not self.closed.is_set()

    def stop_reading(self) -> None:
        """Read nothing from now on; the socket stays open."""
        self.unreachable = True
        assert self._transport is not None  # noqa: S101  narrows the type
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._transport.pause_reading()

    def cut_the_line(self) -> None:
        """From now on nothing that is sent to this socket arrives, not even to be acknowledged.

        As with a cable that was pulled: the other side is told nothing.
        """
        self.unreachable = True
        assert self._transport is not None  # noqa: S101  narrows the type
        program = ctypes.create_string_buffer(DROP_ALL)
        address = struct.pack("HL", 1, ctypes.addressof(program))
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, address)


@dataclass
class Crowd:
    """Callers at one server, the same number at all times: who is cut off calls again after a second."""

    port: int
    name: str
    everyone: list[Witness] = field(default_factory=list)
    apart: list[Witness] = field(default_factory=list)  # misbehave, or called while something failed

    def __post_init__(self) -> None:
        self._clock = Clock()
        self._scripts = scripts()
        self._dice = random.Random(1)  # noqa: S311  not a secret
        self._lines: list[asyncio.Task[None]] = []

    async def arrive(self, calls: int, within_s: float = 60.0) -> list[Witness]:
        """Let so many call, and wait until each has been answered a question. Raises TimeoutError."""
        for _ in range(calls):
            self._lines.append(asyncio.create_task(self._line()))
            await asyncio.sleep(RAMP_S)
        async with asyncio.timeout(within_s):
            while sum(bool(each.answers) for each in self.talking()) < calls:  # noqa: ASYNC110  many callers' doing
                await asyncio.sleep(0.1)
        return self.talking()

    def talking(self) -> list[Witness]:
        """The callers whose calls are going on, without those apart."""
        return [each for each in self.everyone if each.talks and each not in self.apart]

    async def place(self, asks_in_s: float | None = None) -> Witness:
        """One call more, whose caller asks after so many seconds; `errors` say if it was refused."""
        number = len(self.everyone)
        script = self._scripts[number % len(self._scripts)]
        origin = self._clock.origin_after(time.monotonic() + LEAD_S, self._dice.randrange(10))
        kind = ("free", "new", "seed")[number % 3]
        entry = script.entry(self._dice) if asks_in_s is None else script.entry_before(0, asks_in_s)
        caller = Witness(script, entry, origin, kind, f"{self.name}-{number}")
        self.everyone.append(caller)
        self._clock.start(caller)
        await caller.connect(self.port, PATH)
        if caller.errors.refused:
            self.leave(caller)
        return caller

    async def place_apart(self, asks_in_s: float | None = None) -> Witness:
        """One call more that does not count as one of the crowd."""
        caller = await self.place(asks_in_s)
        self.apart.append(caller)
        return caller

    def leave(self, caller: Witness) -> None:
        """The caller says no more: its frames stop."""
        self._clock.stop(caller)

    def hang_up(self, callers: list[Witness]) -> None:
        """These say goodbye."""
        for caller in callers:
            self.leave(caller)
            caller.hang_up()

    async def go_home(self) -> None:
        """All hang up; within 10 s they are gone."""
        for line in self._lines:
            line.cancel()
        await asyncio.gather(*self._lines, return_exceptions=True)
        open_calls = [each for each in self.everyone if not each.closed.is_set() and not each.errors.refused]
        open_calls = [each for each in open_calls if not each.unreachable]
        self.hang_up([each for each in open_calls if not each.hanging_up])
        if open_calls:
            await asyncio.wait([asyncio.create_task(each.closed.wait()) for each in open_calls], timeout=10)
        for caller in self.everyone:
            caller.abort()
        self._clock.close()

    async def answered_after(self, at: float, within_s: float) -> float | None:
        """Seconds from `at` to the first right answer any caller gets from then on; None if none comes."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            later = [t for each in self.everyone for t in each.answers if t >= at]
            if later:
                return min(later) - at
            await asyncio.sleep(0.1)
        return None

    async def _line(self) -> None:
        while True:
            caller = await self.place()
            if not caller.errors.refused:
                await caller.closed.wait()
                self.leave(caller)
            if caller.hanging_up:
                return
            await asyncio.sleep(REDIAL_S)
