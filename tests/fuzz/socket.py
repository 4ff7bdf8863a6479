"""One generated connection against a server: what it may answer, and what it may not."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field

from calls.simulator import wire
from tests.fuzz.messages import Session, command

PROBE_MS = 4_711
ANSWER_S = 20.0
ENDS_S = 0.5  # the rest of a frame may never come
# Of RFC 6455, section 7.4.1: all but 1011, which would be our own fault.
ALLOWED_CLOSES = {1000, 1001, 1002, 1003, 1007, 1008, 1009, None}
ALLOWED_ERRORS = {400, 404, 413, 422, 429, 502}
TEXT, CLOSE = 1, 8


class Wrong(AssertionError):
    """What the server did that it may not do."""


@dataclass
class Heard:
    """What the server sent: messages, and the code it closed with (None: without one)."""

    messages: list[str] = field(default_factory=list)
    closed: bool = False
    code: int | None = None
    decided: asyncio.Event = field(default_factory=asyncio.Event)  # configured, or closed

    def take(self, opcode: int, payload: bytes) -> None:
        """Take a frame."""
        if opcode == TEXT:
            self.messages.append(payload.decode())
            if '"configured"' in self.messages[-1]:
                self.decided.set()
        elif opcode == CLOSE:
            self.closed = True
            self.decided.set()
            self.code = int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None

    @property
    def is_probed(self) -> bool:
        """Whether the answer to our last ping has come."""
        return any('"pong"' in text and json.loads(text)["timestamp"] == PROBE_MS for text in self.messages)


async def run(port: int, session: Session) -> int:
    """Send the session, then a ping, and wait for its pong or for the end; the number of messages sent.

    Raises:
        Wrong: the server said nothing, closed for an error of its own, or sent what no client understands.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        heard = Heard()
        if await _upgraded(reader, writer, port, session.query):
            await _converse(reader, writer, session, heard)
            _judge(heard)
        return len(session.frames)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _upgraded(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int, query: str
) -> bool:
    """Ask for the upgrade; whether it is given. Raises Wrong for another answer than 101 or 4xx."""
    writer.write(
        f"GET /ws/rustpbx?{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    try:
        async with asyncio.timeout(ANSWER_S):
            head = await reader.readuntil(b"\r\n\r\n")
    except (TimeoutError, asyncio.IncompleteReadError, ConnectionError) as error:
        raise Wrong(f"no answer to the handshake: {error!r}") from None
    status = int(head.split(maxsplit=2)[1])
    if status != 101 and not 400 <= status < 500:
        raise Wrong(f"the handshake was answered with {status}")
    return status == 101


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, session: Session, heard: Heard
) -> None:
    listening = asyncio.create_task(_listen(reader, heard))
    try:
        with suppress(ConnectionError):
            for number, sent in enumerate((*session.frames, command(command="ping", timestamp=PROBE_MS))):
                writer.write(sent)
                await writer.drain()
                if number == 0 and session.settles:
                    await _set_up(heard)
        await asyncio.wait_for(listening, ENDS_S if session.ends else ANSWER_S)
    except TimeoutError:
        if not session.ends:
            raise Wrong("neither a pong nor the end") from None


async def _set_up(heard: Heard) -> None:
    """Wait until the call is set up, or the server has closed."""
    try:
        await asyncio.wait_for(heard.decided.wait(), ANSWER_S)
    except TimeoutError:
        raise Wrong(f"no configured; what came: {heard.messages}"[:1_000]) from None


async def _listen(reader: asyncio.StreamReader, heard: Heard) -> None:
    """Take what the server sends until our ping is answered or the connection is over."""
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        while not heard.closed and not heard.is_probed:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length >= 126:
                length = int.from_bytes(await reader.readexactly(2 if length == 126 else 8), "big")
            heard.take(first & 0x0F, await reader.readexactly(length))


def _judge(heard: Heard) -> None:
    if heard.code not in ALLOWED_CLOSES:
        raise Wrong(f"closed with {heard.code}")
    for text in heard.messages:
        try:
            message = wire.read_message(text)
        except wire.Unreadable as unreadable:
            raise Wrong(f"a message that clients drop: {unreadable}") from None
        if message["type"] == "error" and message.get("code") not in ALLOWED_ERRORS:
            raise Wrong(f"error {message.get('code')}: {message['message']}")
