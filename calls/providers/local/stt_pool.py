"""The server's side of the speech-to-text worker processes: starts them, feeds them, survives their death.

Everything here runs on the event loop and nothing blocks it: sockets are non-blocking and there is no task
or thread per call. The processes outlive an event loop; what was under way on the old one is dropped.
"""

import asyncio
import itertools
import logging
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from calls.providers.local.stt_wire import Kind, Unpacker, pack

logger = logging.getLogger(__name__)

# The folder that holds the package `calls`, wherever the server was started.
ROOT = Path(__file__).resolve().parents[3]
# A worker that leaves this much unread (four minutes of audio) hangs.
MAX_UNSENT_BYTES = 8 << 20
READY_SECONDS = 30.0
CLOSE_SECONDS = 1.0

Listener = Callable[[Kind, str], None]


class Utterance:
    """One stretch of speech being recognised.

    Its listener is called on the event loop with PARTIAL and the words so far, and then once with FINAL and
    the words (possibly none) or ERROR and a message; never after `cancel`.
    """

    def __init__(self, worker: "Worker", number: int, listener: Listener) -> None:
        self._worker = worker
        self.number = number
        self.listener = listener

    def feed(self, audio: bytes) -> None:
        """Give 16 kHz s16le mono audio, up to 1 MB at once."""
        self._worker.send(self.number, Kind.AUDIO, audio)

    def end(self) -> None:
        """Say that the speech is over: FINAL follows."""
        self._worker.send(self.number, Kind.END)

    def cancel(self) -> None:
        """Drop the utterance. Safe at any time and more than once."""
        self._worker.send(self.number, Kind.CANCEL)
        self._worker.utterances.pop(self.number, None)


class Worker:
    """One worker process, its socket and the utterances on it."""

    def __init__(self, decoders: int, on_death: Callable[["Worker"], None]) -> None:
        self._on_death = on_death
        self._socket, theirs = socket.socketpair()
        self._socket.setblocking(False)
        with theirs:
            command = [sys.executable, "-m", "calls.providers.local.stt_worker"]
            self.process = subprocess.Popen(  # noqa: S603  our own module and two numbers
                [*command, str(theirs.fileno()), str(decoders)],
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        self._unpacker = Unpacker()
        self._unsent = bytearray()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.utterances: dict[int, Utterance] = {}
        self.was_ready = False
        self.ready = asyncio.Event()

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve `loop` from now on; what was under way for another one is cancelled."""
        for utterance in list(self.utterances.values()):
            utterance.cancel()
        self._loop = loop
        self.ready = asyncio.Event()
        if self.was_ready:
            self.ready.set()
        loop.add_reader(self._socket, self._receive)
        if self._unsent:
            loop.add_writer(self._socket, self._flush)

    def send(self, number: int, kind: Kind, payload: bytes = b"") -> None:
        """Send a message about an utterance, unless the utterance is over."""
        if number not in self.utterances:
            return
        if len(self._unsent) > MAX_UNSENT_BYTES:
            self._die("it reads nothing")
            return
        idle = not self._unsent
        self._unsent += pack(kind, number, payload)
        if idle:
            self._flush()

    def close(self) -> None:
        """Let go of the process: it ends by itself once its socket is closed."""
        if self._loop and not self._loop.is_closed():
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket.close()
        self.utterances.clear()

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            del self._unsent[: self._socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._die(str(error))
            return
        if self._unsent:
            loop.add_writer(self._socket, self._flush)
        else:
            loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._die("it ended")
            return
        for kind, number, payload in self._unpacker.feed(data):
            if kind is Kind.READY:
                self.was_ready = True
                self.ready.set()
            elif utterance := self.utterances.get(number):
                if kind is not Kind.PARTIAL:
                    del self.utterances[number]
                utterance.listener(kind, payload.decode())

    def _die(self, reason: str) -> None:
        """Give up on the process and tell every utterance on it."""
        lost = list(self.utterances.values())
        self.close()
        self.process.kill()
        code = self.process.wait()
        logger.warning("speech-to-text worker %d: %s (code %d)", self.process.pid, reason, code)
        self._on_death(self)
        for utterance in lost:
            utterance.listener(Kind.ERROR, "the embedded speech-to-text worker died")


class Pool:
    """The worker processes. One event loop at a time uses it; a new loop takes it over."""

    def __init__(self, workers: int, decoders: int) -> None:
        self._size = workers
        self._decoders = decoders
        self._workers: list[Worker] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count(1)

    @property
    def is_ready(self) -> bool:
        """Whether every worker process is up with a decoder."""
        return len(self._workers) == self._size and all(w.was_ready for w in self._workers)

    @property
    def pids(self) -> list[int]:
        """The process ids of the workers."""
        return [worker.process.pid for worker in self._workers]

    def start(self, listener: Listener) -> Utterance:
        """Begin an utterance on the worker that has the fewest."""
        self._take_over()
        worker = min(self._workers, key=lambda w: len(w.utterances))
        utterance = Utterance(worker, next(self._numbers) & 0xFFFFFFFF, listener)
        worker.utterances[utterance.number] = utterance
        worker.send(utterance.number, Kind.START)
        return utterance

    async def warm(self) -> None:
        """Start the processes and wait until each has a decoder. Raises TimeoutError after 30 s."""
        self._take_over()
        async with asyncio.timeout(READY_SECONDS):
            for worker in list(self._workers):
                await worker.ready.wait()

    async def close(self) -> None:
        """End the processes, by force after a second. Safe to call again; a later `start` begins anew."""
        workers, self._workers, self._loop = self._workers, [], None
        for worker in workers:
            worker.close()
        await asyncio.to_thread(_reap, [worker.process for worker in workers])

    def _take_over(self) -> None:
        """Serve the running loop, with as many processes as there should be."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            for worker in self._workers:
                worker.bind(loop)
        while len(self._workers) < self._size:
            worker = Worker(self._decoders, self._lost)
            worker.bind(loop)
            self._workers.append(worker)

    def _lost(self, worker: Worker) -> None:
        """Replace a worker that died; at once only if it had worked, so that a fault can't spin."""
        self._workers.remove(worker)
        if worker.was_ready:
            self._take_over()


def _reap(processes: list["subprocess.Popen[bytes]"]) -> None:
    """Wait for the processes, which have been told to end, and kill those that don't."""
    for process in processes:
        try:
            process.wait(CLOSE_SECONDS / max(1, len(processes)))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
