"""The queue of the agent's voice, and of the frames that are pushed between its pieces or at set times.

Voice is sent in pieces of 20 ms, one every 20 ms: the first at once, the others on the beat, which may move
the second by half a beat. A queued frame is pushed after the voice before it. A timed frame (a word, when it
is spoken) is pushed at its time.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import count

from pipecat.frames.frames import Frame

from calls.audio.beat import nearest_beat, until
from calls.audio.format import FRAME_BYTES, FRAME_MS

NS = 1_000_000_000
# If voice is later than this, the schedule starts anew: catching up would send a burst.
MOST_BEHIND_S = 0.060
# Without voice for this long the agent has stopped, even if no TTSStoppedFrame came. Pipecat's bound, too.
SILENT_S = 3.0

SendAudio = Callable[[bytes], Awaitable[None]]
"""Sends 20 ms of the agent's voice (s16le) to the client."""


class Playout:
    """One call's queue of voice and frames.

    Args:
        send: sends 20 ms of voice.
        release: pushes a frame.
        begun: is called before the first voice after a silence.
        silent: is called when no voice has come for SILENT_S and its end was not queued.
        clock: the pipeline's time in ns, for timed frames. The event loop's may stop for a millisecond.
        frame_bytes: the length of 20 ms of voice.
        lead_s: how long before it is to be heard voice is sent, in seconds.
    """

    def __init__(
        self,
        send: SendAudio,
        release: Callable[[Frame], Awaitable[None]],
        begun: Callable[[], Awaitable[None]],
        silent: Callable[[], Awaitable[None]],
        clock: Callable[[], int],
        *,
        frame_bytes: int = FRAME_BYTES,
        lead_s: float = 0.0,
    ) -> None:
        self._send = send
        self._frame_bytes = frame_bytes
        self._lead_s = lead_s
        self._release = release
        self._begun = begun
        self._silent = silent
        self._clock = clock
        self._queue: deque[tuple[bytes | Frame, bool]] = deque()  # and whether an interruption drops it
        self._partial = bytearray()  # the last voice, less than 20 ms
        self._partial_interruptible = True
        # A heap of (time in ns, number, frame); the number keeps the order of frames with the same time.
        self._timed: list[tuple[int, int, Frame]] = []
        self._numbers = count()
        self._more = asyncio.Event()
        self._more_timed = asyncio.Event()
        self._drained = asyncio.Event()
        self._drained.set()
        self._due = 0.0  # when the next voice is to be heard, by the event loop's clock
        self._speaking = False
        self._silenced = False  # for good
        self._letting_go = False  # what left the queue is being sent

    def voice(self, pcm: bytes, *, interruptible: bool) -> None:
        """Queue voice of any length."""
        if self._silenced:
            return
        self._partial += pcm
        self._partial_interruptible = interruptible
        size = self._frame_bytes
        whole = len(self._partial) // size * size
        for start in range(0, whole, size):
            self._put(bytes(self._partial[start : start + size]), interruptible)
        del self._partial[:whole]

    def end_of_voice(self) -> None:
        """Fill the last 20 ms with silence: no more of this voice comes."""
        if self._partial:
            self._put(bytes(self._partial.ljust(self._frame_bytes, b"\0")), self._partial_interruptible)
            self._partial.clear()

    def frame(self, frame: Frame) -> None:
        """Queue a frame behind the voice that came before it."""
        self._put(frame, frame.interruptible)

    def timed(self, frame: Frame, at: int) -> None:
        """Push a frame at `at`, a time of the pipeline's clock in ns."""
        if self._silenced:
            return
        heapq.heappush(self._timed, (at, next(self._numbers), frame))
        self._drained.clear()
        self._more_timed.set()

    def interrupt(self) -> bool:
        """Drop all that is interruptible. Return whether voice is left."""
        self._queue = deque(entry for entry in self._queue if not entry[1])
        self._timed = [entry for entry in self._timed if not entry[2].interruptible]
        heapq.heapify(self._timed)
        if self._partial_interruptible:
            self._partial.clear()
        self._note_drained()
        return bool(self._partial) or any(isinstance(what, bytes) for what, _ in self._queue)

    def silence(self) -> None:
        """Drop everything, and all voice that still comes: nothing more is said."""
        self._silenced = True
        self._queue.clear()
        self._timed.clear()
        self._partial.clear()
        self._note_drained()

    def stopped(self) -> None:
        """The agent has stopped speaking: the next voice is sent at once, on a new schedule."""
        self._speaking = False
        if not self._lead_s:  # else voice that was sent is still to be heard, and the next follows it
            self._due = 0.0

    async def drained(self) -> None:
        """Wait until all that is queued has been sent or pushed."""
        await self._drained.wait()

    async def play(self) -> None:
        """Send voice and push queued frames in order, for ever."""
        while True:
            if not self._queue:
                self._note_drained()
                await self._wait_for_more()
                continue
            what, _ = self._queue[0]
            if isinstance(what, bytes) and await self._had_to_wait():
                continue  # it may have been interrupted meanwhile
            self._queue.popleft()
            self._letting_go = True
            if isinstance(what, bytes):
                await self._play_voice(what)
            else:
                await self._release(what)
            self._letting_go = False

    async def keep_time(self) -> None:
        """Push timed frames, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            self._more_timed.clear()
            if not self._timed:
                self._note_drained()
                await self._more_timed.wait()
            elif (wait := self._timed[0][0] - self._clock()) > 0:
                handle = loop.call_later(wait / NS, self._more_timed.set)
                await self._more_timed.wait()
                handle.cancel()
            else:
                await self._release(heapq.heappop(self._timed)[2])

    async def _had_to_wait(self) -> bool:
        """Wait until the next voice is due. Return False if it was due already and nothing was awaited."""
        if not self._speaking:
            self._speaking = True
            await self._begun()
        elif (leaves := self._due - self._lead_s) > asyncio.get_running_loop().time():
            await until(leaves)
        else:
            return False
        return True

    async def _play_voice(self, pcm: bytes) -> None:
        now = asyncio.get_running_loop().time()
        if self._due < now - MOST_BEHIND_S:
            self._due = now  # a new talkspurt, or a stall too long to make up
        self._due = nearest_beat(self._due + FRAME_MS / 1000)
        await self._send(pcm)

    async def _wait_for_more(self) -> None:
        self._more.clear()
        if not self._speaking:
            await self._more.wait()
            return
        try:
            async with asyncio.timeout(SILENT_S):
                await self._more.wait()
        except TimeoutError:
            await self._silent()

    def _put(self, what: bytes | Frame, interruptible: bool) -> None:
        self._queue.append((what, interruptible))
        self._drained.clear()
        self._more.set()

    def _note_drained(self) -> None:
        if not (self._queue or self._timed or self._letting_go):
            self._drained.set()
