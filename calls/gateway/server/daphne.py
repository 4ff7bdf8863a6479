"""Daphne as a server of calls: bounded towards a client that does not read, and graceful at its end."""

import asyncio
import logging
import socket
import time
from typing import Any

import calls.gateway.server.eventloop  # isort: skip  # noqa: F401  Daphne makes its event loop when it is imported
from daphne.server import Server, twisted_loop  # isort: skip  # and chooses Twisted's reactor then
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred

from calls.gateway.reading import GATHER
from calls.gateway.server import frames, lifespan

reactor: Any = _reactor  # its types are those of an interface that leaves out half of it
logger = logging.getLogger(__name__)

NOT_READING_S = 10.0  # the agent's voice is 120 KB/s as JSON: about a megabyte gathers until then
NOT_READING = 1008
UNREAD_MESSAGES = 1_000  # ten seconds of a call; with more than these queued, the socket is not read
LOOK_AGAIN_S = 0.01
SEND_BUFFER_BYTES = 64 * 1024  # half a second of voice as JSON; the kernel would let megabytes grow stale
BACKLOG = 1024  # connections
UNREAD_BYTES = 4096  # more than gathers in the 40 ms it is left to: a tenth of a second of audio
# Linux has it, and forgets it after a while: it is set anew with every message.
QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)


def endpoint(host: str, port: int) -> str:
    """Where to listen, in Twisted's syntax.

    Twisted lets 50 connections wait to be accepted. Of the calls of a busy minute's first second some would
    then be tried again by their kernels after one, three or seven seconds.
    """
    escaped = host.replace(":", "\\:")
    return f"tcp:port={port}:interface={escaped}:backlog={BACKLOG}"


class CallProtocol(WebSocketProtocol):
    """A socket whose audio takes a short way, and that is dropped when its client does not read for 10 s.

    Daphne never waits for a client: what it sends gathers in the transport. Twisted tells a producer when the
    transport's buffer is full and when it has drained; between the two runs the clock. For plain TCP
    only: TLS is the proxy's.

    An upgrade of autobahn, Daphne or Twisted must check what `dataReceived` and `serverSend` stand in for:
    that autobahn's dataReceived still only logs and calls _dataReceived, the attributes `_at_rest` asks for,
    what Daphne's onMessage and serverSend do, and where Twisted keeps what waits to be sent.
    """

    _giving_up: Any = None
    _gathering: asyncio.TimerHandle | None = None  # audio gathers unread until then
    _frame_bytes = 0  # of the last message of audio, on the wire

    def onOpen(self) -> None:
        """The handshake is done: from here on, this object hears about the transport's buffer."""
        self.transport.unregisterProducer()  # the HTTP channel's, of no use any more
        self.transport.registerProducer(self, True)
        self.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        super().onOpen()

    def dataReceived(self, data: bytes) -> None:
        """Take what came, and acknowledge it at once.

        RustPBX's socket has Nagle's algorithm on: it sends no small frame while another
        is unacknowledged, and the kernel would wait 40 ms for something to send the acknowledgement with.
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
        """Whether the application has much to read yet: a flood must gather in its sender, not in here."""
        return self.state == self.STATE_OPEN and self.application_queue.qsize() > UNREAD_MESSAGES

    def _read_on(self) -> None:
        """Read the socket again once the application has caught up, or is done."""
        if self._is_behind():
            reactor.callLater(LOOK_AGAIN_S, self._read_on)
        elif self.connected:
            self.transport.resumeProducing()

    def _at_rest(self) -> bool:
        """Whether the socket is open and nothing is half read: no frame, no message, no ping of ours."""
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
        """Hand over the whole binary messages that `data` begins with; the rest is for autobahn.

        Those of one length go `as_one` event, if asked, which has their number in "messages".

        A call sends a hundred such messages a second. Autobahn's way through them, which can do everything
        the RFC knows, takes five times as long.
        """
        at, payloads = 0, []
        while (found := frames.binary_message(data, at)) is not None:
            self._frame_bytes = found[1] - at
            payload, at = found
            payloads.append(payload)
        if not payloads:
            return data
        self.last_ping = time.time()  # Daphne pings a client that says nothing
        pcm = frames.joined(payloads) if as_one else None
        if pcm is not None:
            event = {"type": "websocket.receive", "bytes": pcm, "messages": len(payloads)}
            self.application_queue.put_nowait(event)
        else:
            for payload in payloads:
                self.application_queue.put_nowait({"type": "websocket.receive", "bytes": payload})
        return data[at:]

    def gather(self, messages: int, until: float) -> None:
        """Let so many messages of audio come before they are read, and hand them over as one event.

        They are expected at `until`, a time of the event loop, and not read before then even if they come
        earlier; 0 messages: read whatever is there.
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
        """Send a message, at once if nothing else waits to be sent.

        Twisted's own way asks the event loop to tell when the socket can be written, writes then, and
        withdraws the request: three more system calls for each 20 ms of voice.
        """
        if self.state != self.STATE_OPEN or self._perMessageCompress is not None:
            super().serverSend(content, binary)
            return
        frame = frames.message(content)
        transport = self.transport
        if transport.connected and not (transport.dataBuffer or transport._tempDataBuffer):
            sent = transport.writeSomeData(frame)
            frame = frame[sent:] if isinstance(sent, int) else b""  # a lost connection is reported by reading
        if frame:
            transport.write(frame)

    def serverClose(self, code: int | None = None) -> None:
        """Close with any code of the RFC: autobahn's own check lets an application say 1000 only.

        What still comes is not for the application, which is done.
        """
        self.muted = True
        self.sendCloseFrame(code=1000 if code is None else code, isReply=False)

    def pauseProducing(self) -> None:
        """The buffer is full."""
        if self._giving_up is None:
            self._giving_up = reactor.callLater(NOT_READING_S, self._give_up)

    def resumeProducing(self) -> None:
        """The buffer has drained."""
        if self._giving_up is not None:
            self._giving_up.cancel()
            self._giving_up = None

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.resumeProducing()

    def _give_up(self) -> None:
        self._giving_up = None
        logger.warning("dropped %s: the client did not read for %.0f s", self.client_addr, NOT_READING_S)
        self.application_queue.put_nowait({"type": "websocket.disconnect", "code": NOT_READING})
        self.muted = True
        self.transport.abortConnection()


class CallServer(Server):
    """Daphne with models that are warm before it listens, and calls that end before it does."""

    def run(self) -> None:
        """Warm up, listen, serve until a signal, end the calls. Exits with 1 if it cannot listen."""
        asyncio.set_event_loop(twisted_loop)
        twisted_loop.run_until_complete(lifespan.startup())
        reactor.callWhenRunning(self._use_our_sockets)
        super().run()
        if self.abort_start:  # it could not, and Daphne has logged why
            raise SystemExit(1)

    def _use_our_sockets(self) -> None:
        self.ws_factory.protocol = CallProtocol
        # A message beyond all measure is told its code (1009) before the connection ends.
        self.ws_factory.setProtocolOptions(failByDrop=False)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        """Let the application say how much audio may gather before it is read."""
        if isinstance(protocol, CallProtocol):
            scope["extensions"] = {GATHER: protocol.gather}
        return super().create_application(protocol, scope)

    def kill_all_applications(self) -> Deferred[Any]:
        """Before Daphne cancels what still runs: end the calls, store them, stop the models."""
        ended = Deferred.fromFuture(asyncio.ensure_future(lifespan.shutdown()))
        ended.addCallback(lambda _: super(CallServer, self).kill_all_applications())
        return ended
