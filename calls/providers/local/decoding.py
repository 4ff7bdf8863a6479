"""The threads that recognise speech, and which call may use one next.

A thread uses one core for some 50 ms. There are as many threads as cores, shared by all calls. A call uses
one at a time, and first come is first served: a long speech is transcribed in pieces, so others wait for one
piece at most. Partial transcripts are made only when a thread is free, and given up when it is needed: a
final transcript never waits for a partial one.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from calls.providers.local.moonshine import TINY, GiveUp, Moonshine, Transcript
from calls.providers.niceness import give_way

Load = Callable[[str], Moonshine]


class Threads:
    """A bounded number of threads that run the models.

    Args:
        load: makes the model of a given name; called in a thread when the model is first needed.
        count: of threads.
    """

    def __init__(self, load: Load, count: int) -> None:
        self._load = load
        self._count = count
        self._loading = threading.Lock()
        self._models: dict[str, Moonshine] = {}
        self._executor = ThreadPoolExecutor(count, thread_name_prefix="speech-to-text", initializer=give_way)

    @property
    def is_ready(self) -> bool:
        """Whether TINY is loaded."""
        return TINY in self._models

    def model(self, name: str = TINY) -> Moonshine:
        """A model, by name. Blocks for 0.3 s if it has to be loaded."""
        if name not in self._models:  # without the lock, so that a loaded model is had while another loads
            with self._loading:
                if name not in self._models:
                    self._models[name] = self._load(name)
        return self._models[name]

    def desk(self) -> "Desk":
        """Make the desk for the calls of the running event loop."""
        return Desk(self, self._count)

    def submit(
        self, pcm: bytes, draft: Sequence[int], give_up: GiveUp, model: str = TINY
    ) -> "Future[Transcript | None]":
        """Transcribe in a thread."""
        return self._executor.submit(lambda: self.model(model).transcribe(pcm, draft, give_up))

    def close(self) -> None:
        """End the threads when their current work is done; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Desk:
    """Gives the threads to the calls of one event loop."""

    def __init__(self, threads: Threads, count: int) -> None:
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop whose calls it serves."""
        return self._loop

    async def transcribe(self, pcm: bytes, draft: Sequence[int] = (), model: str = TINY) -> Transcript:
        """Wait for a thread, and transcribe `pcm`. Raises what the model raises."""
        await self._turn()
        transcript = await self._run(pcm, draft, lambda: False, model)
        if transcript is None:
            raise RuntimeError("a transcript that was not to be given up was")
        return transcript

    async def glance(
        self,
        pcm: bytes,
        draft: Sequence[int] = (),
        is_vain: GiveUp = lambda: False,
        model: str = TINY,
    ) -> Transcript | None:
        """Transcribe `pcm` if a thread is free now; return None if not, or if it is given up.

        It is given up when a final transcript needs the thread, or when `is_vain`, which is called in the
        thread, returns True.
        """
        if not self._free or self._waiting:
            return None
        self._free -= 1
        return await self._run(pcm, draft, lambda: bool(self._waiting) or is_vain(), model)

    async def _turn(self) -> None:
        """Wait for a thread."""
        if self._free and not self._waiting:
            self._free -= 1
            return
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._release()  # it had just been given a thread, and was cancelled
            elif turn in self._waiting:  # it may have been removed in the same moment
                self._waiting.remove(turn)
            raise

    async def _run(self, pcm: bytes, draft: Sequence[int], give_up: GiveUp, model: str) -> Transcript | None:
        """Run in a thread, which is free again when it has finished, even if this was cancelled before."""
        abandoned = threading.Event()
        work = self._threads.submit(pcm, draft, lambda: abandoned.is_set() or give_up(), model)
        work.add_done_callback(self._finished)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    def _finished(self, _work: "Future[Transcript | None]") -> None:
        with suppress(RuntimeError):  # the event loop is closed: nothing waits any more
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
