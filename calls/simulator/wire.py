"""The protocol as a RustPBX client sees it: the commands it sends, and a strict reader of server messages.

It shares no code with the server's codec, so that each checks the other.
"""

import json
import time
from collections.abc import Callable
from typing import Any

SAMPLE_RATE = 16_000  # Hz, mono s16le in both directions
BRIDGE_RATE = 8_000  # Hz, unless the URL asks for another
BYTES_PER_SECOND = SAMPLE_RATE * 2

Check = Callable[[Any], bool]


class Unreadable(ValueError):
    """A server message that a real client drops; the text says why."""


def _is_unsigned(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**64


def _is_code(value: Any) -> bool:
    return value is None or type(value) is int


def _is_text(value: Any) -> bool:
    """Whether `value` is a string without lone surrogates."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_text_or_null(value: Any) -> bool:
    return value is None or _is_text(value)


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _is_byte_array(value: Any) -> bool:
    # Two passes in C: a call carries 32,000 of these numbers a second.
    return isinstance(value, list) and set(map(type, value)) <= {int} and (not value or _are_bytes(value))


def _are_bytes(values: list[int]) -> bool:
    return min(values) >= 0 and max(values) <= 255


EXPECTED: dict[Check, str] = {
    _is_unsigned: "a non-negative integer",
    _is_code: "an integer or null",
    _is_text: "a string",
    _is_text_or_null: "a string or null",
    _is_bool: "a boolean",
    _is_byte_array: "an array of integers from 0 to 255",
}

# The fields that a client requires, by message type.
REQUIRED: dict[str, dict[str, Check]] = {
    "connected": {"server": _is_text, "version": _is_text, "timestamp": _is_unsigned},
    "configured": {"call_id": _is_text, "status": _is_text, "timestamp": _is_unsigned},
    "transcription": {"text": _is_text, "is_final": _is_bool, "timestamp": _is_unsigned},
    "llm_response": {"text": _is_text, "is_complete": _is_bool, "timestamp": _is_unsigned},
    "tts_started": {"text": _is_text, "timestamp": _is_unsigned},
    "tts_completed": {"text": _is_text, "timestamp": _is_unsigned},
    "audio": {
        "audio_data": _is_byte_array,
        "sample_rate": _is_unsigned,
        "channels": _is_unsigned,
        "frame_id": _is_text,
    },
    "metrics": {"key": _is_text, "duration": _is_unsigned, "timestamp": _is_unsigned},
    "error": {"message": _is_text, "timestamp": _is_unsigned},
    "ping": {"timestamp": _is_unsigned},
    "pong": {"timestamp": _is_unsigned},
}
# Fields that may be missing; with a wrong JSON type they still make the client drop the message.
OPTIONAL: dict[str, dict[str, Check]] = {
    "transcription": {"language": _is_text_or_null},
    "error": {"code": _is_code},
}


def _no_constant(name: str) -> None:
    raise Unreadable(f"{name} is not JSON")


def read_message(text: str) -> dict[str, Any]:
    """Parse the server message in `text`; extra fields are kept.

    Raises `Unreadable` where a real client drops the message: `text` is not a JSON object, the type is
    unknown, a required field is missing, or a field has a wrong JSON type.
    """
    try:
        message = json.loads(text, parse_constant=_no_constant)
    except (json.JSONDecodeError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from error
    if not isinstance(message, dict):
        raise Unreadable(f"expected a JSON object, got {type(message).__name__}")
    kind = message.get("type")
    if not isinstance(kind, str) or kind not in REQUIRED:
        raise Unreadable(f"unknown type {kind!r:.60}")
    for field, check in REQUIRED[kind].items():
        if field not in message:
            raise Unreadable(f"{kind}: {field} is missing")
        _insist(kind, field, message[field], check)
    for field, check in OPTIONAL.get(kind, {}).items():
        if field in message:
            _insist(kind, field, message[field], check)
    return message


def _insist(kind: str, field: str, value: Any, check: Check) -> None:
    if not check(value):
        raise Unreadable(f"{kind}: {field} must be {EXPECTED[check]}, got {value!r:.60}")


def now_ms() -> int:
    """Milliseconds since 1970, as in the protocol's timestamps."""
    return time.time_ns() // 1_000_000


def configure(room_id: str, system_prompt: str | None = None, **extensions: Any) -> dict[str, Any]:
    """The `configure` command with the configurations that every real client sends, and `extensions`."""
    return {
        "command": "configure",
        "room_id": room_id,
        "system_prompt": system_prompt,
        "stt_config": {"sample_rate": SAMPLE_RATE, "language": "en", "model": "nova"},
        "llm_config": {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
        "tts_config": {"model": "aura-asteria-en", "sample_rate": SAMPLE_RATE, "encoding": "linear16"},
        **extensions,
    }


def ping() -> dict[str, Any]:
    """The application ping, sent every 30 s."""
    return {"command": "ping", "timestamp": now_ms()}


def key(digit: str) -> dict[str, Any]:
    """A key of the caller's, as a bridge says it."""
    return {"digit": digit, "leg_id": "caller", "type": "dtmf"}


def disconnect(reason: str) -> dict[str, Any]:
    """The caller hangs up."""
    return {"command": "disconnect", "reason": reason}


def audio(frame: bytes, number: int) -> dict[str, Any]:
    """One frame of s16le audio in the older clients' JSON form."""
    return {
        "command": "audio",
        "audio_data": list(frame),
        "sample_rate": SAMPLE_RATE,
        "channels": 1,
        "timestamp": now_ms(),
        "frame_id": str(number),
    }
