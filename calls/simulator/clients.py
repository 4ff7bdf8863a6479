"""The client generations: how each shares one socket between reading and sending.

The two RustPBX generations guard the socket with one fair lock, which the reader holds while it waits for the
next message. They differ in how long the reader holds the lock, and in how much the sender sends with it.
"""

import asyncio
import json
import os
import socket
import time
from array import array
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, InvalidURI, WebSocketException
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from calls.simulator import wire
from calls.simulator.audio import FramesAt

CONNECT_TIMEOUT_S = 10.0
# Long enough for the last frames of a healthy call; a backlog is not worth waiting for.
HANG_UP_TIMEOUT_S = 0.2
CLOSE_TIMEOUT_S = 2.0
PING_S = 30.0
MAX_MESSAGE = 64 * 2**20  # bytes, as the real clients' library allows


@dataclass(frozen=True)
class Generation:
    """How one client generation uses its socket."""

    locks: bool = False  # one lock guards the socket
    hold_s: float | None = None  # the reader releases the lock after this long; None: when a message comes
    bursts: bool = False  # sends all queued frames when it gets the lock, else one
    plays_binary: bool = True
    json_audio: bool = False
    streams_at_once: bool = False  # connects when the first frame is there and drops frames until connected
    is_bridge: bool = False  # sends nothing but audio, at a rate of its own; hangs up without `disconnect`


GENERATIONS = {
    "seed": Generation(locks=True, plays_binary=False, streams_at_once=True),
    "new": Generation(locks=True, hold_s=0.1, bursts=True),
    "free": Generation(),
    "json": Generation(json_audio=True),
    "bridge": Generation(is_bridge=True),
}


class CallFailed(Exception):
    """The call could not be set up; the text is one line for the user."""


@dataclass
class FrameCounts:
    """What became of the caller's frames. A lag is the ms from a frame's due time to the socket having it."""

    due: int = 0
    sent: int = 0
    dropped: int = 0
    lags_ms: array = field(default_factory=lambda: array("d"))


class _Connection(ClientConnection):
    """A connection that calls `on_ping` for WebSocket pings: tungstenite's reader sees them, too."""

    def __init__(self, *args: Any, on_ping: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_ping = on_ping

    def process_event(self, event: Event) -> None:
        """Handle one incoming frame or handshake."""
        super().process_event(event)
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self._on_ping()


@dataclass(frozen=True)
class Incoming:
    """A message from the server and its `time.monotonic()`; `data` is None for a WebSocket ping."""

    at: float
    data: str | bytes | None


@dataclass(frozen=True)
class _Outgoing:
    """A frame or command on its way out; `due` is its `time.monotonic()`, None for commands."""

    data: str | bytes
    due: float | None = None


class PbxClient:
    """One call's socket, used the way a client generation uses it.

    `on_message` gets each message when the generation's reader takes it. The client's own ping goes out every
    `ping_s`. A bridge's audio is sent at `rate` Hz. It waits `within_s` for the connection.
    """

    def __init__(
        self,
        generation: Generation,
        url: str,
        on_message: Callable[[Incoming], None],
        ping_s: float = PING_S,
        rate: int = wire.SAMPLE_RATE,
        *,
        within_s: float | None = CONNECT_TIMEOUT_S,
    ) -> None:
        self.generation = generation
        self.url = url
        self.frames = FrameCounts()
        self._closed = asyncio.Event()
        self._on_message = on_message
        self._ping_s, self._within_s = ping_s, within_s
        self._at_its_rate = FramesAt(rate) if generation.is_bridge and rate != wire.SAMPLE_RATE else None
        self._lock: AbstractAsyncContextManager[Any] = asyncio.Lock() if generation.locks else nullcontext()
        self._outbox: asyncio.Queue[_Outgoing | None] = asyncio.Queue()
        self._inbox: asyncio.Queue[Incoming | None] = asyncio.Queue()
        self._socket: ClientConnection | None = None
        self._sender: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def connect(self, configure: dict[str, Any]) -> None:
        """Connect, send `configure`, and start to read and send. Raises `CallFailed`."""
        self._socket = await _open(self.url, self._inbox, self._within_s)
        work = [self._receive(), self._read_messages()]
        if not self.generation.is_bridge:
            work.append(self._ping())
            with suppress(ConnectionClosed):  # the reader reports the end
                await self._send(json.dumps(configure))
        self._sender = asyncio.create_task(self._send_frames())
        self._tasks = [self._sender, *(asyncio.create_task(each) for each in work)]

    def stream(self, frame: bytes, due: float) -> None:
        """Queue a frame that became due at `due`; dropped while there is no connection."""
        self.frames.due += 1
        if self._sender is None:
            self.frames.dropped += 1
            return
        if self._at_its_rate is not None:
            frame = self._at_its_rate(frame)
        as_json = self.generation.json_audio
        data = json.dumps(wire.audio(frame, self.frames.due)) if as_json else frame
        self._outbox.put_nowait(_Outgoing(data, due))

    def command(self, command: dict[str, Any]) -> None:
        """Queue a JSON command behind the frames that wait."""
        self._outbox.put_nowait(_Outgoing(json.dumps(command)))

    async def hang_up(self, reason: str) -> None:
        """Say `disconnect` if the lock allows it soon, and close. Harmless when closed already.

        Raises what `on_message` raised, if it did.
        """
        try:
            if self.generation.is_bridge and self._socket is not None and not self.closed:
                self._socket.transport.close()  # RustPBX ends the TCP connection and says nothing
            elif self._sender is not None and not self.closed:
                self.command(wire.disconnect(reason))
                self._outbox.put_nowait(None)
                await asyncio.wait([self._sender], timeout=HANG_UP_TIMEOUT_S)
        finally:
            if self._socket is not None:
                await self._socket.close()
            await stop(self._tasks)

    @property
    def closed(self) -> bool:
        """Whether the reader has reached the end of the connection."""
        return self._closed.is_set()

    async def wait_closed(self) -> None:
        """Wait until the reader has reached the end of the connection."""
        await self._closed.wait()

    @property
    def close_code(self) -> int | None:
        """The WebSocket close code once closed (1006: the connection was lost)."""
        return self._socket.close_code if self._socket else None

    @property
    def close_reason(self) -> str:
        """The reason that the closing side gave; "" if none."""
        return (self._socket.close_reason if self._socket else None) or ""

    async def _receive(self) -> None:
        """Take messages off the network; the generation's reader takes them from here."""
        assert self._socket is not None  # noqa: S101  narrows the type; connect() has set it
        try:
            while True:
                data = await self._socket.recv()
                self._inbox.put_nowait(Incoming(time.monotonic(), data))
        except ConnectionClosed:
            self._inbox.put_nowait(None)

    async def _read_messages(self) -> None:
        try:
            while True:
                async with self._lock:
                    try:
                        async with asyncio.timeout(self.generation.hold_s):
                            incoming = await self._inbox.get()
                    except TimeoutError:
                        continue
                if incoming is None:
                    return
                self._on_message(incoming)
        finally:
            self._closed.set()

    async def _send_frames(self) -> None:
        try:
            while (outgoing := await self._outbox.get()) is not None:
                async with self._lock:
                    await self._hand_over(outgoing)
                    while self.generation.bursts and not self._outbox.empty():
                        outgoing = self._outbox.get_nowait()
                        if outgoing is None:
                            return
                        await self._hand_over(outgoing)
        except ConnectionClosed:
            return  # the reader reports the end

    async def _hand_over(self, outgoing: _Outgoing) -> None:
        await self._send(outgoing.data)
        if outgoing.due is not None:
            self.frames.sent += 1
            self.frames.lags_ms.append((time.monotonic() - outgoing.due) * 1000)

    async def _send(self, data: str | bytes) -> None:
        assert self._socket is not None  # noqa: S101  narrows the type; connect() has set it
        await self._socket.send(data)

    async def _ping(self) -> None:
        due = time.monotonic()
        while True:
            due += self._ping_s
            await asyncio.sleep(due - time.monotonic())
            self.command(wire.ping())


async def stop(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel `tasks`, wait for their end, and raise the first error that one of them ended with."""
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            raise outcome


def without_query(url: str) -> str:
    """`url` without its query and credentials, which may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.partition("?")[0]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


async def _open(url: str, inbox: asyncio.Queue[Incoming | None], within_s: float | None) -> ClientConnection:
    """A socket set up as RustPBX's: no compression, no headers of its own, Nagle's algorithm on."""
    shown = without_query(url)
    on_ping = lambda: inbox.put_nowait(Incoming(time.monotonic(), None))  # noqa: E731  one use
    try:
        connection = await connect(
            url,
            compression=None,
            proxy=None,
            user_agent_header=None,
            open_timeout=within_s,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,
            max_size=MAX_MESSAGE,
            create_connection=partial(_Connection, on_ping=on_ping),  # type: ignore[arg-type]  # any factory does
        )
    except InvalidStatus as error:
        raise CallFailed(f"{shown} refused the call: HTTP {error.response.status_code}") from error
    except TimeoutError as error:
        raise CallFailed(f"{shown} did not answer within {within_s:g} s") from error
    except (InvalidURI, ValueError) as error:
        raise CallFailed(f"{shown} is not a WebSocket address (ws://host:port/path)") from error
    except OSError as error:
        # asyncio words its own messages; the plain "Connection refused" is behind the number.
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
        raise CallFailed(f"cannot connect to {shown}: {why}") from error
    except WebSocketException as error:
        raise CallFailed(f"{shown} does not speak WebSocket: {error}") from error
    # asyncio switches Nagle's algorithm off; RustPBX leaves it on, and servers have to live with its delays.
    connection.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    return connection
