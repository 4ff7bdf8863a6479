"""The wire of `/ws/rustpbx`: what a client sent, decoded and checked; what it is sent, encoded.

Nothing here does I/O or knows Django or Pipecat.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from calls.audio.format import SAMPLE_RATE
from calls.rustpbx.messages import (
    Audio,
    ClientMessage,
    Configure,
    Disconnect,
    ErrorCode,
    Ping,
    ProtocolError,
    Timed,
)

MAX_TEXT_BYTES = 64 * 1024  # in UTF-8
MAX_BINARY_BYTES = 64 * 1024

# Some fields are columns of bounded width; a longer one is the client's mistake and is named, not cut.
MAX_NAME_CHARS = 255
MAX_DEPTH = 32  # of a value within the message; what lies deeper would not be stored


def decode_binary(data: bytes) -> Audio:
    """Read a binary message.

    Raises:
        ProtocolError: empty (422), odd length (422), over 64 KB (413).
    """
    if len(data) > MAX_BINARY_BYTES:
        raise ProtocolError(
            ErrorCode.TOO_LARGE,
            f"expected at most {MAX_BINARY_BYTES} bytes of audio a message, got {len(data)}",
        )
    return Audio(_checked_pcm(data))


def decode_text(text: str) -> ClientMessage:
    """Read a text message.

    Raises:
        ProtocolError: no JSON object, unknown command, a field missing or of another type (400), a value that
            cannot be used (422), over 64 KB (413).
    """
    size = len(text)
    if size <= MAX_TEXT_BYTES < 4 * size and not text.isascii():  # else the number of characters decides
        size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_TEXT_BYTES:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"expected at most {MAX_TEXT_BYTES} bytes a message, got at least {size}"
        )
    try:
        # The default would accept NaN and Infinity, which are not JSON and which a database refuses later.
        data = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as e:
        raise ProtocolError(
            ErrorCode.MALFORMED, f"expected a JSON object, got text that is none: {e}"
        ) from None
    if not isinstance(data, dict):
        raise ProtocolError(ErrorCode.MALFORMED, f"expected a JSON object, got {_json_type(data)}")
    command = data.get("command")
    decoder = _DECODERS.get(command) if isinstance(command, str) else None
    if decoder is None:
        known = ", ".join(_DECODERS)
        raise ProtocolError(
            ErrorCode.MALFORMED, f"expected command to be one of {known}, got {shown(command)}"
        )
    return decoder(data)


def refuse_constant(name: str) -> None:
    """Raise ValueError: NaN and Infinity are not JSON."""
    raise ValueError(f"{name} is not JSON")


def refuse_unstorable(data: dict[str, Any]) -> None:
    """No database stores a NUL or half a surrogate pair: refuse them where they can be named.

    Goes from depth to depth: a recursion would end where the client decides.
    """
    values: list[Any] = [data]
    for _ in range(MAX_DEPTH + 1):
        inner: list[Any] = []
        for value in values:
            if isinstance(value, str):
                refuse_unstorable_text(value)
            elif isinstance(value, dict):
                inner += (*value.keys(), *value.values())
            elif isinstance(value, list):
                inner += value
        if not inner:
            return
        values = inner
    raise ProtocolError(
        ErrorCode.BAD_VALUE, f"expected values nested at most {MAX_DEPTH} deep, got some nested deeper"
    )


def refuse_unstorable_text(text: str) -> None:
    """Raise ProtocolError for text that no database stores: NUL, or half a character."""
    if "\0" in text:
        raise ProtocolError(ErrorCode.BAD_VALUE, "expected text without NUL characters, got one")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ProtocolError(ErrorCode.BAD_VALUE, "expected Unicode text, got half a surrogate pair") from None


def _decode_configure(data: dict[str, Any]) -> Configure:
    refuse_unstorable(data)
    return Configure(
        room_id=checked_name(data, "room_id", required=True) or "",
        system_prompt=_optional(data, "system_prompt", str, "a string or null"),
        stt_config=_optional(data, "stt_config", dict, "an object or null"),
        llm_config=_optional(data, "llm_config", dict, "an object or null"),
        tts_config=_optional(data, "tts_config", dict, "an object or null"),
        profile=checked_name(data, "profile"),
        caller=checked_name(data, "caller"),
        callee=checked_name(data, "callee"),
        metadata=_optional(data, "metadata", dict, "an object or null") or {},
    )


def _decode_ping(data: dict[str, Any]) -> Ping:
    timestamp = _required(data, "timestamp", int, "an integer of milliseconds")
    if not 0 <= timestamp < 2**63:
        raise ProtocolError(
            ErrorCode.BAD_VALUE,
            f"expected timestamp to be milliseconds from 0 to 2^63, got {shown(timestamp)}",
        )
    return Ping(timestamp)


def _decode_disconnect(data: dict[str, Any]) -> Disconnect:
    refuse_unstorable(data)
    return Disconnect(_optional(data, "reason", str, "a string") or "")


def _decode_audio(data: dict[str, Any]) -> Audio:
    samples = _required(data, "audio_data", list, "an array of integers 0-255")
    for name, expected in (("sample_rate", SAMPLE_RATE), ("channels", 1)):
        value = data.get(name, expected)
        if value != expected or isinstance(value, bool):
            raise ProtocolError(ErrorCode.BAD_VALUE, f"expected {name} {expected}, got {shown(value)}")
    try:
        pcm = bytes(samples)
    except (ValueError, TypeError):
        raise ProtocolError(ErrorCode.BAD_VALUE, "expected audio_data to hold integers 0-255 only") from None
    return Audio(_checked_pcm(pcm), is_json=True)


_DECODERS: dict[str, Callable[[dict[str, Any]], ClientMessage]] = {
    "configure": _decode_configure,
    "ping": _decode_ping,
    "disconnect": _decode_disconnect,
    "audio": _decode_audio,
}


def _checked_pcm(data: bytes) -> bytes:
    if not data:
        raise ProtocolError(ErrorCode.BAD_VALUE, "expected 16-bit samples, got an empty audio message")
    if len(data) % 2:
        raise ProtocolError(
            ErrorCode.BAD_VALUE, f"expected 16-bit samples, an even number of bytes, got {len(data)} bytes"
        )
    return data


def _required(data: dict[str, Any], name: str, kind: type, expected: str) -> Any:
    if name not in data:
        raise ProtocolError(ErrorCode.MALFORMED, f"expected {name} ({expected}), got a message without it")
    value = data[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ProtocolError(ErrorCode.MALFORMED, f"expected {name} to be {expected}, got {shown(value)}")
    return value


def _optional(data: dict[str, Any], name: str, kind: type, expected: str) -> Any:
    return None if data.get(name) is None else _required(data, name, kind, expected)


def checked_name(data: dict[str, Any], name: str, *, required: bool = False) -> str | None:
    """The text `name` of the data, None if it is not there. Raises ProtocolError if it cannot be used."""
    read = _required if required else _optional
    value: str | None = read(data, name, str, "a string")
    if value is not None and len(value) > MAX_NAME_CHARS:
        raise ProtocolError(
            ErrorCode.BAD_VALUE, f"expected {name} of at most {MAX_NAME_CHARS} characters, got {len(value)}"
        )
    return value


def _json_type(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def shown(value: Any) -> str:
    """A value as an error message shows it: short, whatever came."""
    text = repr(value) if isinstance(value, (str, int, float, bool)) else _json_type(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def encode(message: Timed) -> str:
    """The JSON text of a message."""
    # The class variable `type` is among them. asdict() would take five times as long to copy them.
    return json.dumps({name: getattr(message, name) for name in message.__dataclass_fields__})


def encode_audio(pcm: bytes, frame_id: str, rate: int = SAMPLE_RATE) -> str:
    """The JSON text of 20 ms of the agent's voice.

    Args:
        pcm: s16le mono, 640 bytes at 16 kHz.
        frame_id: unique in the call; plain ASCII without quotes.
        rate: of the samples, in Hz.
    """
    # Looked up as numbers of one width, with spaces behind the short ones: 3 µs where json.dumps takes 34 and
    # joining strings 10. This runs 50 times a second a call.
    samples = _BYTE_TEXTS[np.frombuffer(pcm, np.uint8)].tobytes().rstrip(b", ").decode("ascii")
    return (
        f'{{"type":"audio","audio_data":[{samples}],"sample_rate":{rate},"channels":1,'
        f'"frame_id":"{frame_id}"}}'
    )


_BYTE_TEXTS = np.array([f"{byte},".ljust(4).encode() for byte in range(256)])
