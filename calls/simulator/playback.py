"""The agent's audio as it arrives, what a phone plays of it, and how evenly it was sent."""

import asyncio
import time
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from calls.simulator.audio import resampled
from calls.simulator.wire import SAMPLE_RATE

PACKET_S = 0.02  # one message is one RTP packet of this length
# After a longer pause, audio begins a new talkspurt.
TALKSPURT_GAP_S = 0.3
# A packet that is at most this late leaves no audible gap: the phone's jitter buffer covers it.
JITTER_BUFFER_S = 0.06


@dataclass(frozen=True)
class Arrival:
    """One audio message: when it came, in s from the call's start, and its length in s."""

    at: float
    length: float


@dataclass
class Talkspurt:
    """A stretch of agent audio: its messages, and when a phone has played it, in s from the call's start."""

    arrivals: list[Arrival]
    end: float

    @property
    def start(self) -> float:
        """When the first message came, in s from the call's start."""
        return self.arrivals[0].at

    @property
    def last_message(self) -> float:
        """When the last message came, in s from the call's start."""
        return self.arrivals[-1].at

    def leads(self) -> list[float]:
        """For each message, by how many s it came before it was due, if the first was due when it came."""
        leads, due = [], self.start
        for arrival in self.arrivals:
            leads.append(due - arrival.at)
            due += arrival.length
        return leads


@dataclass(frozen=True)
class Pacing:
    """How evenly the messages of the talkspurts were spaced.

    `gap_*` are between one message and the next. `drift_ms` is how much longer the longest talkspurt, of
    `longest_s`, took to arrive than it takes to play. `ahead_ms` is by how much the earliest message came
    before it was due.
    """

    gap_p50_ms: float
    gap_p99_ms: float
    gap_max_ms: float
    drift_ms: float
    ahead_ms: float
    longest_s: float


class Playback:
    """Collects one call's agent audio. Times are in s from the call's start."""

    def __init__(self, started: float, rate: int = SAMPLE_RATE) -> None:
        """`started` is the call's start by `time.monotonic()`, `rate` the audio's in Hz."""
        self.started = started
        self.rate = rate
        self._bytes_per_second = 2 * rate
        self.talkspurts: list[Talkspurt] = []
        self._reply = bytearray()
        self._heard = asyncio.Event()

    def hear(self, at: float, pcm: bytes) -> bool:
        """Take an audio message's s16le `pcm`; whether it begins a talkspurt."""
        begins = not self.talkspurts or at - self.played > TALKSPURT_GAP_S
        if begins:
            self.talkspurts.append(Talkspurt([], at))
        talkspurt = self.talkspurts[-1]
        talkspurt.arrivals.append(Arrival(at, len(pcm) / self._bytes_per_second))
        if begins or at > self.played + JITTER_BUFFER_S:
            self._reply.extend(self._silence(at))
        self._reply.extend(pcm)
        talkspurt.end = self.played
        self._heard.set()
        return begins

    def reply(self, until: float) -> bytes:
        """What a phone has played by `until`: s16le mono 16 kHz from the call's start, silence where none."""
        played = bytes(self._reply) + self._silence(until)
        return played if self.rate == SAMPLE_RATE else resampled(played, self.rate)

    @property
    def packet_bytes(self) -> int:
        """The length of an audio message that fits."""
        return round(PACKET_S * self._bytes_per_second)

    @property
    def played(self) -> float:
        """When a phone has played all audio so far; 0 if there was none."""
        return len(self._reply) / self._bytes_per_second

    async def quiet(self, seconds: float) -> None:
        """Wait until there has been no audio for `seconds`, of which only those after this call count."""
        begin = self._now()
        while (left := max(begin, self.played) + seconds - self._now()) > 0:  # noqa: ASYNC110  a time is awaited
            await asyncio.sleep(left)

    async def reply_to(self, speech: tuple[float, float]) -> Talkspurt:
        """Wait for a talkspurt that begins after `speech` begins, and still lasts when `speech` has ended.

        Audio that the caller interrupts, or that stops while the caller speaks, is not a reply.
        """
        began, ended = speech
        while not (spurts := self.talkspurts) or spurts[-1].start < began or spurts[-1].last_message < ended:
            self._heard.clear()
            await self._heard.wait()
        return self.talkspurts[-1]

    async def speaking(self) -> Talkspurt:
        """Wait until the agent speaks; return that talkspurt."""
        now = self._now()
        if self.talkspurts and now - self.played < TALKSPURT_GAP_S:
            return self.talkspurts[-1]
        return await self.reply_to((now, now))

    def pacing(self) -> Pacing | None:
        """The pacing figures; None if no talkspurt has two messages."""
        spurts = [each for each in self.talkspurts if len(each.arrivals) > 1]
        if not spurts:
            return None
        gaps = [(b.at - a.at) * 1000 for each in spurts for a, b in pairwise(each.arrivals)]
        longest = max(spurts, key=lambda each: each.last_message - each.start)
        p50, p99 = (float(value) for value in np.percentile(gaps, [50, 99]))
        return Pacing(
            gap_p50_ms=p50,
            gap_p99_ms=p99,
            gap_max_ms=max(gaps),
            drift_ms=-longest.leads()[-1] * 1000,
            ahead_ms=max(max(each.leads()) for each in spurts) * 1000,
            longest_s=longest.last_message - longest.start,
        )

    def _now(self) -> float:
        return time.monotonic() - self.started

    def _silence(self, until: float) -> bytes:
        """The silence from the end of the audio so far to `until`."""
        return bytes(max(0, round(until * self.rate) * 2 - len(self._reply)))
