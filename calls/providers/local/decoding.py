"""Who may use the recogniser's threads: speech that is over before speech that goes on, in fair turns.

A thread holds one core for some 50 ms. There are as many threads as cores, shared by all calls, and a call
asks for one at a time: whoever asks first is served first, so a long speech, which comes in pieces, keeps
nobody waiting for longer than a piece. What is only shown while somebody speaks is done when there is nothing
else to do, and given up for what is: a final never waits for a partial.
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
        load: makes the model of a name, in a thread, when it is first needed.
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
        """A model, loaded if need be, which blocks for 0.3 s."""
        if name not in self._models:  # who has a model need not wait for another one to be loaded
            with self._loading:
                if name not in self._models:
                    self._models[name] = self._load(name)
        return self._models[name]

    def desk(self) -> "Desk":
        """Where the calls of the running event loop ask for a thread."""
        return Desk(self, self._count)

    def submit(
        self, pcm: bytes, draft: Sequence[int], give_up: GiveUp, model: str = TINY
    ) -> "Future[Transcript | None]":
        """Have a thread transcribe."""
        return self._executor.submit(lambda: self.model(model).transcribe(pcm, draft, give_up))

    def close(self) -> None:
        """End the threads once they have done what they are doing; what waits is dropped."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Desk:
    """Gives out the threads on one event loop."""

    def __init__(self, threads: Threads, count: int) -> None:
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._free = count
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop whose calls may ask."""
        return self._loop

    async def transcribe(self, pcm: bytes, draft: Sequence[int] = (), model: str = TINY) -> Transcript:
        """What is said in `pcm`, when it is this call's turn. Raises what the model raises."""
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
        """What is said in `pcm`, if there is a thread to spare now and for as long as it takes.

        None if there is not, or if `is_vain`, which is asked from the thread, says that nobody wants to know.
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
                self._release()  # it was this one's turn, and it has left
            elif turn in self._waiting:  # else it was passed over in the same moment
                self._waiting.remove(turn)
            raise

    async def _run(self, pcm: bytes, draft: Sequence[int], give_up: GiveUp, model: str) -> Transcript | None:
        """Run in a thread; it is free again when it has finished, whether somebody still waits or not."""
        abandoned = threading.Event()
        work = self._threads.submit(pcm, draft, lambda: abandoned.is_set() or give_up(), model)
        work.add_done_callback(self._finished)
        try:
            return await asyncio.wrap_future(work)
        except asyncio.CancelledError:
            abandoned.set()
            raise

    def _finished(self, _work: "Future[Transcript | None]") -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody asks any more
            self._loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1
