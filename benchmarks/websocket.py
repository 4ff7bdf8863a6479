"""The part of RFC 6455 that a load generator needs, with little CPU."""

import base64
import json
import os
import struct
from collections.abc import Iterator
from typing import Any

MASK = b"\x37\xfa\x21\x3d"  # clients have to mask; with one mask for all, frames can be made in advance
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Refused(Exception):
    """The server did not answer the handshake with status 101; the text is its status line."""


def handshake(port: int, path: str) -> bytes:
    """The request that opens a WebSocket to 127.0.0.1."""
    key = base64.b64encode(os.urandom(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def frame_header(opcode: int, length: int) -> bytes:
    """The first bytes of a client's frame of less than 64 KB, the mask included."""
    if length < 126:
        return bytes([0x80 | opcode, 0x80 | length]) + MASK
    return struct.pack(">BBH", 0x80 | opcode, 0x80 | 126, length) + MASK


def frame(opcode: int, payload: bytes) -> bytes:
    """A client's frame of less than 64 KB."""
    masked = bytes(byte ^ MASK[i & 3] for i, byte in enumerate(payload))
    return frame_header(opcode, len(payload)) + masked


def command(**fields: Any) -> bytes:
    """A frame with a JSON command."""
    return frame(TEXT, json.dumps(fields).encode())


class Parser:
    """Parses bytes from the server into (opcode, payload) of each whole frame.

    Raises:
        Refused: the handshake failed.
    """

    def __init__(self) -> None:
        self.open = False
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Take bytes; yield the frames that they complete."""
        buffer = self._buffer
        buffer += data
        if not self.open:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            status = bytes(buffer[: buffer.find(b"\r\n")]).decode("latin-1")
            if " 101 " not in status:
                raise Refused(status)
            del buffer[: end + 4]
            self.open = True
        start = 0
        while len(buffer) - start >= 2:
            length, body = buffer[start + 1] & 0x7F, start + 2
            if length >= 126:
                width = 2 if length == 126 else 8
                length = int.from_bytes(buffer[body : body + width], "big")
                body += width
            if len(buffer) < body + length:
                break
            yield buffer[start] & 0x0F, bytes(buffer[body : body + length])
            start = body + length
        del buffer[:start]
