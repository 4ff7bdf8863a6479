"""The messages between the server and a speech-to-text worker process, over a stream socket.

A message is a header (payload bytes, utterance number, kind) and a payload. The server sends START, AUDIO
(16 kHz s16le mono), END and CANCEL; the worker answers READY once, PARTIAL as words come, and one of FINAL
or ERROR for each utterance that wasn't cancelled. Texts are UTF-8. This module imports nothing heavy.
"""

import struct
from collections.abc import Iterator
from enum import IntEnum

SAMPLE_RATE = 16000
BYTES_PER_SECOND = SAMPLE_RATE * 2
MAX_PAYLOAD = 1 << 20
_HEADER = struct.Struct("<IIB")


class Kind(IntEnum):
    """What a message means."""

    START = 1
    AUDIO = 2
    END = 3
    CANCEL = 4
    READY = 5
    PARTIAL = 6
    FINAL = 7
    ERROR = 8


def pack(kind: Kind, utterance: int = 0, payload: bytes = b"") -> bytes:
    """The bytes of one message."""
    return _HEADER.pack(len(payload), utterance, kind) + payload


class Unpacker:
    """Cuts the bytes of a stream into messages, however they arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[Kind, int, bytes]]:
        """Yield (kind, utterance, payload) of each message completed by `data`.

        Raises ValueError for what can't be a message.
        """
        self._buffer += data
        while len(self._buffer) >= _HEADER.size:
            size, utterance, kind = _HEADER.unpack_from(self._buffer)
            if size > MAX_PAYLOAD:
                raise ValueError(f"a message of {size} bytes: at most {MAX_PAYLOAD} expected")
            end = _HEADER.size + size
            if len(self._buffer) < end:
                return
            payload = bytes(self._buffer[_HEADER.size : end])
            del self._buffer[:end]
            yield Kind(kind), utterance, payload
