"""Callers that use little CPU: they send ready-made frames, and note the times of the agent's audio.

The generations of clients send differently: a free one sends each frame when it is due; the newer RustPBX
sends all queued frames when a message comes or after 100 ms; the older one sends one frame for each message
it receives. A bridge sends frames as they are due, of 20 ms at 8 kHz, and nothing else.
"""

import asyncio
import json
import socket
import time
from array import array
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import in_ms, missed_ticks, percentile
from benchmarks.speech import FRAME_S, Script
from benchmarks.websocket import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Parser,
    Refused,
    command,
    frame,
    handshake,
)

TICK_S = 0.001
PHASES = round(FRAME_S / TICK_S)  # callers are spread over the 10 ms of a frame
NEW_CLIENT_HOLDS_S = 0.1
BRIDGE_RATE, BRIDGE_FRAME_S = 8_000, 0.02
TINY = 1e-9
PING_S = 30.0
NORMAL_CLOSURE = (1000).to_bytes(2, "big")
CONFIGURE = {
    "system_prompt": None,
    "stt_config": {"sample_rate": 16_000, "language": "en", "model": "nova"},
    "llm_config": {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
    "tts_config": {"model": "aura-asteria-en", "sample_rate": 16_000, "encoding": "linear16"},
}


@dataclass(frozen=True, slots=True)
class Errors:
    """What went wrong on a caller's connection, as a sentence; "" if nothing did."""

    refused: str = ""
    dropped: str = ""


class Caller(asyncio.Protocol):
    """One call.

    Args:
        script: what the caller says.
        entry: the frame of the script to begin with.
        origin: when the first frame begins; it is due 10 ms later.
        generation: "free", "new", "seed" or "bridge".
        room: the call's room_id.
        speed: how many times as fast as in real time frames are sent: with 10, an hour takes six minutes.
    """

    def __init__(
        self, script: Script, entry: int, origin: float, generation: str, room: str, *, speed: int = 1
    ) -> None:
        self.script, self.entry, self.origin = script, entry, origin
        self.generation, self.room, self.speed = generation, room, speed
        self.due = self.sent = 0  # frames
        self._ticks = 0  # of 10 ms
        self.arrivals = array("d")
        self.audio_seconds = 0.0  # the length of one message of the agent's voice; 0 until one comes
        self.codes: list[str] = []  # of the `error` messages that came
        self.configured_at = 0.0
        self.errors = Errors()
        self.opened = asyncio.get_running_loop().create_future()
        self.spoken_to = asyncio.Event()  # the agent's voice has been heard
        self.closed = asyncio.Event()
        self.hanging_up = False
        self._parser = Parser()
        self._transport: asyncio.Transport | None = None
        self._released = 0.0

    @property
    def is_bridge(self) -> bool:
        """Whether this is RustPBX's bridge: audio both ways and nothing else."""
        return self.generation == "bridge"

    @property
    def streams(self) -> bool:
        """Whether its frames wait for no message."""
        return self.generation in ("free", "bridge")

    async def connect(self, port: int, path: str) -> None:
        """Open the socket and send `configure`, within a bounded time. Failures are noted in `errors`."""
        loop = asyncio.get_running_loop()
        separator = "&" if "?" in path else "?"
        bridge = f"&client=bridge&rate={BRIDGE_RATE}" if self.is_bridge else ""
        self._request = handshake(port, f"{path}{separator}origin={self.origin:.6f}{bridge}")
        try:
            async with asyncio.timeout(30):
                await loop.create_connection(lambda: self, "127.0.0.1", port)
                await self.opened
        except (TimeoutError, OSError, Refused) as error:
            self.errors = Errors(refused=f"{type(error).__name__}: {error}")

    def tick(self, now: float) -> None:
        """Note that another frame is due."""
        self._ticks += self.speed
        self.due = int(self._ticks * FRAME_S / self.script.frame_s + TINY)
        if self._transport is None or self._transport.is_closing() or not self._parser.open:
            return
        if self.streams or (self.generation == "new" and now - self._released >= NEW_CLIENT_HOLDS_S):
            self._release(now)

    def hang_up(self) -> None:
        """Say `disconnect` and close, as RustPBX does; its bridge ends the connection without a word."""
        self.hanging_up = True
        if self._transport is not None and self.is_bridge:
            self._transport.close()
        elif self._transport is not None:
            self._transport.write(command(command="disconnect", reason="done"))
            self._transport.write(frame(CLOSE, NORMAL_CLOSURE))

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def ping(self) -> None:
        """Send the application's ping, as the real clients do every 30 s."""
        if self._transport is not None and self._parser.open and not self.is_bridge:
            self._transport.write(command(command="ping", timestamp=time.time_ns() // 1_000_000))

    # --- asyncio.Protocol ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected: ask for the upgrade."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows the type
        self._transport = transport
        if self.generation != "free":  # RustPBX leaves Nagle's algorithm on
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Note when bytes came, and parse as little of them as possible."""
        now = time.monotonic()
        was_open = self._parser.open
        try:
            for opcode, payload in self._parser.feed(data):
                self._on_frame(opcode, payload, now)
        except Refused as refused:
            if not self.opened.done():
                self.opened.set_exception(refused)
            self.abort()
        if self._parser.open and not was_open and self._transport is not None:
            if not self.is_bridge:
                self._transport.write(command(command="configure", room_id=self.room, **CONFIGURE))
            self._released = now
            if not self.opened.done():
                self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is closed, by either side."""
        if not self.opened.done():
            self.opened.set_exception(Refused(f"closed during the handshake: {exc}"))
        elif not self.hanging_up:
            self.errors = Errors(dropped=f"the server closed the call: {exc}")
        self._transport = None
        self.closed.set()

    def _on_frame(self, opcode: int, payload: bytes, now: float) -> None:
        assert self._transport is not None  # noqa: S101  narrows the type
        if opcode == TEXT and payload.find(b'"audio_data"', 0, 200) >= 0:
            self.arrivals.append(now)
            if not self.audio_seconds:
                self.spoken_to.set()
                self.audio_seconds = len(json.loads(payload)["audio_data"]) / 32_000
        elif opcode == BINARY:
            self.arrivals.append(now)
            if not self.audio_seconds:
                self.spoken_to.set()
                self.audio_seconds = len(payload) / (2 * BRIDGE_RATE)
        elif opcode == TEXT:
            self._on_message(json.loads(payload), now)
        elif opcode == PING:
            self._transport.write(frame(PONG, payload))
        elif opcode == CLOSE:
            self._transport.close()
        if not self.streams:
            self._release(now)

    def _on_message(self, message: dict[str, Any], now: float) -> None:
        """Handle a message that is not audio."""
        if message.get("type") == "error":
            self.codes.append(f"{message.get('code')}: {message.get('message')}")
        elif message.get("type") == "configured":
            self.configured_at = now

    def _release(self, now: float) -> None:
        """Send all frames that are due, or one if the client is of the older generation."""
        assert self._transport is not None  # noqa: S101  narrows the type
        self._released = now
        until = min(self.due, self.sent + 1) if self.generation == "seed" else self.due
        script, size = self.script, self.script.size
        while self.sent < until:
            start = (self.entry + self.sent) % script.count * size
            self._transport.write(script.frames[start : start + size])
            self.sent += 1


class Clock:
    """Ticks every millisecond. Every tenth tick a frame of a caller is due; callers have different phases.

    It also measures how late its ticks were.
    """

    def __init__(self) -> None:
        self.late = array("d")
        self.base = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._phases: list[list[Caller]] = [[] for _ in range(PHASES)]
        self._next = 0  # tick
        self._starts: dict[int, list[Caller]] = {}
        self._timer = self._loop.call_soon(self._tick)

    def origin_after(self, at: float, phase: int) -> float:
        """The first time at or after `at` that is in the phase."""
        tick = round((at - self.base) / TICK_S)
        return self.base + (tick + (phase - tick) % PHASES) * TICK_S

    def start(self, caller: Caller) -> None:
        """Start a caller: its first frame begins at its origin and is due one frame later."""
        tick = round((caller.origin - self.base) / TICK_S)
        self._starts.setdefault(max(tick, self._next), []).append(caller)

    def stop(self, caller: Caller) -> None:
        """Stop a caller: no more of its frames are due."""
        for phase in self._phases:
            if caller in phase:
                phase.remove(caller)

    def close(self) -> None:
        """Stop ticking."""
        self._timer.cancel()

    def report(self) -> dict[str, float | None]:
        """How late the ticks were."""
        return {
            "generator_late_p95_ms": in_ms(percentile(self.late, 0.95)),
            "generator_late_p99_ms": in_ms(percentile(self.late, 0.99)),
        }

    def _tick(self) -> None:
        now = time.monotonic()
        due = self.base + self._next * TICK_S
        self.late.extend(missed_ticks(due, now, TICK_S))
        while self.base + self._next * TICK_S <= now:
            phase = self._phases[self._next % PHASES]
            for caller in phase:
                caller.tick(now)
            phase += self._starts.pop(self._next, [])
            self._next += 1
        self._timer = self._loop.call_at(self.base + self._next * TICK_S, self._tick)
