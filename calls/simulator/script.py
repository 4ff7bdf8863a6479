"""What the caller does: a list of steps, and the microphone that they speak into."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from calls.simulator.audio import speech_spans
from calls.simulator.playback import Playback
from calls.simulator.wire import BYTES_PER_SECOND


@dataclass(frozen=True)
class Say:
    """Speak all of `pcm` (s16le mono 16 kHz)."""

    pcm: bytes


@dataclass(frozen=True)
class Wait:
    """Be silent for `seconds`."""

    seconds: float


@dataclass(frozen=True)
class WaitForAgent:
    """Listen until the agent has been quiet for `quiet_s`; give up after `timeout_s`.

    With `reply`, the agent first has to answer the caller's last speech (or to greet).
    """

    quiet_s: float = 1.0
    timeout_s: float = 60.0
    reply: bool = True


@dataclass(frozen=True)
class Send:
    """Send a JSON command."""

    command: dict[str, Any]


@dataclass(frozen=True)
class Interrupt:
    """Say `pcm` once the agent has spoken for `after_s`; give up if it is silent for `timeout_s`."""

    pcm: bytes
    after_s: float = 1.0
    timeout_s: float = 60.0


Step = Say | Wait | WaitForAgent | Send | Interrupt


def awaits_reply(steps: Sequence[Step]) -> bool:
    """Whether the caller listens after having spoken."""
    spoken = False
    for step in steps:
        spoken = spoken or isinstance(step, Say | Interrupt)
        if spoken and isinstance(step, WaitForAgent) and min(step.quiet_s, step.timeout_s) > 0:
            return True
    return False


class Microphone:
    """A phone's microphone: an endless stream of frames, speech while the script speaks, else silence."""

    def __init__(self, started: float, frame_ms: int) -> None:
        """`started` is the call's start by `time.monotonic()`; the microphone opens with `stream`."""
        self.frame_s = frame_ms / 1000
        self.spans: list[tuple[float, float]] = []
        self._started = started
        self._opened = started
        self._frame_bytes = BYTES_PER_SECOND * frame_ms // 1000
        self._frames = 0
        self._speech = bytearray()
        self._said = asyncio.Event()

    @property
    def last_speech(self) -> tuple[float, float]:
        """Start and end of the caller's last speech, in s from the call's start; zeros if there was none."""
        return self.spans[-1] if self.spans else (0.0, 0.0)

    async def stream(self, put: Callable[[bytes, float], None]) -> None:
        """In real time call `put` with each frame and its due time by `time.monotonic()` until cancelled."""
        self._opened = time.monotonic()
        while True:
            # A frame is due once all of it is recorded.
            due = self._opened + (self._frames + 1) * self.frame_s
            await asyncio.sleep(due - time.monotonic())
            put(self._next_frame(), due)

    async def say(self, pcm: bytes) -> None:
        """Speak `pcm` after what is still to be said, and wait until all is said."""
        queued = len(self._speech) / BYTES_PER_SECOND
        begins = self._opened - self._started + self._frames * self.frame_s + queued
        self.spans += [(begins + start, begins + end) for start, end in speech_spans(pcm)]
        self._speech += pcm
        while self._speech:
            self._said.clear()
            await self._said.wait()

    def _next_frame(self) -> bytes:
        self._frames += 1
        if not self._speech:
            return bytes(self._frame_bytes)
        frame = bytes(self._speech[: self._frame_bytes])
        del self._speech[: self._frame_bytes]
        if not self._speech:
            self._said.set()
        return frame.ljust(self._frame_bytes, b"\0")


class Caller:
    """Performs a script.

    `on_step` is called with each step (`says`, `waits`, `listens` or `sends`) and its length in s.
    """

    def __init__(
        self,
        microphone: Microphone,
        playback: Playback,
        send: Callable[[dict[str, Any]], None],
        on_step: Callable[[str, float], None],
    ) -> None:
        self._microphone = microphone
        self._playback = playback
        self._send = send
        self._on_step = on_step
        self._left: Sequence[Step] = ()

    @property
    def said_all(self) -> bool:
        """Whether nothing is left to be said."""
        return not any(isinstance(step, Say | Interrupt) for step in self._left)

    async def perform(self, steps: Sequence[Step]) -> list[Step]:
        """Do the steps one after the other; return those that waited for the agent in vain."""
        in_vain: list[Step] = []
        for number, step in enumerate(steps):
            self._left = steps[number:]
            try:
                await self._do(step)
            except TimeoutError:
                in_vain.append(step)
        self._left = ()
        return in_vain

    async def _do(self, step: Step) -> None:
        match step:
            case Say(pcm):
                await self._say(pcm)
            case Wait(seconds):
                self._on_step("waits", seconds)
                await asyncio.sleep(seconds)
            case WaitForAgent(quiet_s, timeout_s, reply):
                self._on_step("listens", quiet_s)
                async with asyncio.timeout(timeout_s):
                    if reply:
                        await self._playback.reply_to(self._microphone.last_speech)
                    await self._playback.quiet(quiet_s)
            case Send(command):
                self._on_step("sends", 0)
                self._send(command)
            case Interrupt(pcm, after_s, timeout_s):
                async with asyncio.timeout(timeout_s):
                    talkspurt = await self._playback.speaking()
                await asyncio.sleep(talkspurt.start + after_s + self._playback.started - time.monotonic())
                await self._say(pcm)

    async def _say(self, pcm: bytes) -> None:
        self._on_step("says", len(pcm) / BYTES_PER_SECOND)
        await self._microphone.say(pcm)
