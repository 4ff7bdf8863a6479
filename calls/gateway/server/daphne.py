"""Daphne for calls: drops a client that does not read, reads audio faster, shuts down gracefully."""

import asyncio
import logging
import socket
import time
from http import HTTPStatus
from typing import Any

import calls.gateway.server.eventloop  # isort: skip  # noqa: F401  Daphne makes its event loop when it is imported
from daphne.server import Server, twisted_loop  # isort: skip  # and chooses Twisted's reactor then
from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from calls.gateway.reading import GATHER
from calls.gateway.refusing import ANSWER
from calls.gateway.server import frames, lifespan
from calls.gateway.server.signals import Ending

reactor: Any = _reactor  # its declared interface lacks half of its methods
logger = logging.getLogger(__name__)

NOT_READING_S = 10.0  # the agent's voice is 120 KB/s as JSON: about a megabyte is buffered by then
NOT_READING = 1008
UNREAD_MESSAGES = 1_000  # ten seconds of a call; with more than these queued, the socket is not read
LOOK_AGAIN_S = 0.01
SEND_BUFFER_BYTES = 64 * 1024  # half a second of voice as JSON; the kernel's default holds megabytes
BACKLOG = 1024  # connections
UNREAD_BYTES = 4096  # a tenth of a second of audio: more than comes in the 40 ms at most that we wait
# Linux only. The kernel resets it, so it is set after every read.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def endpoint(host: str, port: int) -> str:
    """The address to listen at, as Twisted's endpoint string.

    Twisted's default backlog is 50 connections. When more calls come at once, the kernels of the rest retry
    after one, three or seven seconds.
    """
    escaped = host.replace(":", "\\:")
    return f"tcp:port={port}:interface={escaped}:backlog={BACKLOG}"


class CallProtocol(WebSocketProtocol):
    """A WebSocket that parses audio itself, and that is dropped when its client does not read for 10 s.

    Daphne never waits for a client: unsent data stays in the transport's buffer. Twisted calls
    `pauseProducing` when that buffer is full and `resumeProducing` when it has drained; between the two our
    timer runs. For plain TCP only: TLS ends at the proxy.

    When autobahn, Daphne or Twisted is upgraded, check what we rely on: autobahn's dataReceived only logs and
    calls _dataReceived; the attributes that `_at_rest` reads; Daphne's onMessage and serverSend, which
    `_take_audio` and `serverSend` replace; the transport's dataBuffer and _tempDataBuffer.
    """

    _giving_up: Any = None
    _refused_with = HTTPStatus.FORBIDDEN
    _gathering: asyncio.TimerHandle | None = None  # audio is left unread until it fires
    _frame_bytes = 0  # length of the latest audio message's frame

    def onOpen(self) -> None:
        """Register as the transport's producer once the handshake is done."""
        self.transport.unregisterProducer()  # the HTTP channel, no longer needed
        self.transport.registerProducer(self, True)
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().onOpen()

    def dataReceived(self, data: bytes) -> None:
        """Take the received bytes, and acknowledge them at once.

        RustPBX's socket uses Nagle's algorithm: it sends no small frame while another is unacknowledged, and
        our kernel would delay the acknowledgement by 40 ms.
        """
        gathered, self._gathering = self._gathering, None
        if gathered is not None:
            gathered.cancel()
        if self._at_rest():
            data = self._take_audio(data, as_one=gathered is not None)
        if data:
            self._dataReceived(data)
        if gathered is not None and self._gathering is None:
            self._wake_at(1)
        if QUICK_ACK is not None and self.transport.connected and gathered is None:
            self.transport.getHandle().setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)
        if self._is_behind():
            self.transport.pauseProducing()
            reactor.callLater(LOOK_AGAIN_S, self._read_on)

    def _is_behind(self) -> bool:
        """Whether the application's queue is too long. A flood must wait in the client's socket, not here."""
        return self.state == self.STATE_OPEN and self.application_queue.qsize() > UNREAD_MESSAGES

    def _read_on(self) -> None:
        """Resume reading the socket once the application has caught up or the socket closes."""
        if self._is_behind():
            reactor.callLater(LOOK_AGAIN_S, self._read_on)
        elif self.connected:
            self.transport.resumeProducing()

    def _at_rest(self) -> bool:
        """Whether the socket is open, no frame or message is half read, and no ping of Daphne's is open."""
        return (
            self.state == self.STATE_OPEN
            and not self.data
            and self.current_frame is None
            and not self.inside_message
            and self._perMessageCompress is None
            and self.autoPingTimeoutCall is None
            and not self.muted
        )

    def _take_audio(self, data: bytes, *, as_one: bool) -> bytes:
        """Hand the complete binary messages at the start of `data` to the application; return the rest.

        With `as_one`, messages of equal length become one event, with their number in "messages".

        A call sends a hundred of these messages a second. Autobahn, which supports the whole RFC, takes five
        times as long for each.
        """
        at, payloads = 0, []
        while (found := frames.binary_message(data, at)) is not None:
            self._frame_bytes = found[1] - at
            payload, at = found
            payloads.append(payload)
        if not payloads:
            return data
        self.last_ping = time.time()  # Daphne pings a client that sends nothing
        pcm = frames.joined(payloads) if as_one else None
        if pcm is not None:
            event = {"type": "websocket.receive", "bytes": pcm, "messages": len(payloads)}
            self.application_queue.put_nowait(event)
        else:
            for payload in payloads:
                self.application_queue.put_nowait({"type": "websocket.receive", "bytes": payload})
        return data[at:]

    def gather(self, messages: int, until: float) -> None:
        """Wait for this number of audio messages and hand them over as one event; 0: read what is buffered.

        They are expected at `until`, a time of the event loop, and are not read before it.
        """
        if self._gathering is not None:
            self._gathering.cancel()
        if messages:
            self._wake_at(UNREAD_BYTES)
            wanted = messages * self._frame_bytes - len(self.data)
            self._gathering = asyncio.get_running_loop().call_at(until, self._wake_at, max(1, wanted))
        else:
            self._wake_at(1)

    def _wake_at(self, size: int) -> None:
        """Set SO_RCVLOWAT so that we wake when `size` bytes are buffered, or when the connection ends."""
        if self.transport.connected:
            self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:
        """Send a message, at once if the transport's buffer is empty.

        Twisted itself registers the socket with the event loop, writes once it is writable, and unregisters
        it: three more system calls for each 20 ms of voice.
        """
        if self.state != self.STATE_OPEN or self._perMessageCompress is not None:
            super().serverSend(content, binary)
            return
        frame = frames.message(content)
        transport = self.transport
        if transport.connected and not (transport.dataBuffer or transport._tempDataBuffer):
            sent = transport.writeSomeData(frame)
            if not isinstance(sent, int):
                # Reading need not tell: when data and a reset come together, uvloop lets us read the data and
                # watches the socket no more.
                transport.abortConnection()
                return
            frame = frame[sent:]
        if frame:
            transport.write(frame)

    def handle_reply(self, message: dict[str, Any]) -> None:
        """Do what the application says; answer a request that it refuses with the status it gives."""
        match message["type"]:
            case "websocket.http.response.start":
                self._refused_with = message["status"]
            case "websocket.http.response.body":
                self.serverReject()
            case _:
                super().handle_reply(message)

    def serverReject(self) -> None:
        """Answer with HTTP instead of the upgrade: 403 unless the application gave a status."""
        status = HTTPStatus(self._refused_with)
        self.handshake_deferred.errback(ConnectionDeny(int(status), status.phrase))
        del self.handshake_deferred
        self.server.protocol_disconnected(self)

    def serverClose(self, code: int | None = None) -> None:
        """Close with any code of the RFC (autobahn allows 1000 only), and ignore further input."""
        self.muted = True
        self.sendCloseFrame(code=1000 if code is None else code, isReply=False)

    def pauseProducing(self) -> None:
        """Start the timer: the transport's buffer is full."""
        if self._giving_up is None:
            self._giving_up = reactor.callLater(NOT_READING_S, self._give_up)

    def resumeProducing(self) -> None:
        """Stop the timer: the transport's buffer has drained."""
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def stopProducing(self) -> None:
        """Stop the timer: the connection is lost."""
        self.resumeProducing()

    def _give_up(self) -> None:
        self._giving_up = None
        logger.warning("dropped %s: the client did not read for %.0f s", self.client_addr, NOT_READING_S)
        self.application_queue.put_nowait({"type": "websocket.disconnect", "code": NOT_READING})
        self.muted = True
        self.transport.abortConnection()


class CallServer(Server):
    """Daphne that loads the models before it listens, and ends the calls before it stops."""

    def run(self) -> None:
        """Warm up, listen, serve until a signal, end the calls. Exits with 1 if it cannot listen.

        Raises:
            CannotStart: the database or a model cannot be had.
        """
        asyncio.set_event_loop(twisted_loop)
        twisted_loop.run_until_complete(self._begin())
        reactor.callWhenRunning(self._use_our_sockets)
        super().run()
        if self.abort_start:  # could not listen; Daphne has logged why
            twisted_loop.run_until_complete(lifespan.shutdown())
            raise SystemExit(1)

    async def _begin(self) -> None:
        await lifespan.startup()
        Ending(self.stop).watch()

    def _use_our_sockets(self) -> None:
        self.ws_factory.protocol = CallProtocol
        # For a message that is too long, send the close code (1009) before dropping the connection.
        self.ws_factory.setProtocolOptions(failByDrop=False)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Create the application, with the extensions of CallProtocol in its scope."""
        if isinstance(protocol, CallProtocol):
            scope["extensions"] = {GATHER: protocol.gather, ANSWER: {}}
        return super().create_application(protocol, scope)

    def kill_all_applications(self) -> Deferred[Any]:
        """End the calls, store them and stop the models before Daphne cancels the applications."""
        ended = Deferred.fromFuture(asyncio.ensure_future(lifespan.shutdown()))
        ended.addCallback(lambda _: super(CallServer, self).kill_all_applications())
        return ended
