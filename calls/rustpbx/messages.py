"""The messages of `/ws/rustpbx`, both ways, as types.

RustPBX drops a message that lacks a required field, or has
one in another JSON type, without saying so: that is why every outgoing message is a class with typed fields.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from calls.audio.format import SAMPLE_RATE


class ErrorCode(IntEnum):
    """What went wrong, in the numbers HTTP uses for it."""

    MALFORMED = 400
    NOT_FOUND = 404
    TOO_LARGE = 413
    BAD_VALUE = 422
    TOO_FAST = 429
    INTERNAL = 500
    PROVIDER = 502


class ProtocolError(Exception):
    """A client's message that cannot be used: `code` says how, the text what was expected and what came."""

    def __init__(self, code: ErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


# --- Client to server -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Configure:
    """`configure`: who calls and how to answer. Fields the client left out are None (`metadata`: empty)."""

    room_id: str
    system_prompt: str | None = None
    stt_config: Mapping[str, Any] | None = None
    llm_config: Mapping[str, Any] | None = None
    tts_config: Mapping[str, Any] | None = None
    profile: str | None = None
    caller: str | None = None
    callee: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ping:
    """`ping`: asks for a pong with the same timestamp (ms)."""

    timestamp: int


@dataclass(frozen=True, slots=True)
class Disconnect:
    """`disconnect`: the client closes right after it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Audio:
    """Caller's voice: s16le mono at 16 kHz. `is_json` tells the older client's `command: audio`."""

    pcm: bytes
    is_json: bool = False


@dataclass(frozen=True, slots=True)
class Key:
    """A key that the caller pressed and released: a digit, "*", "#" or a letter from A to D."""

    digit: str


@dataclass(frozen=True, slots=True)
class Typed:
    """What the caller typed instead of saying it."""

    text: str


@dataclass(frozen=True, slots=True)
class Url:
    """The URL's parameters: who calls, and how audio is sent (`rate` in Hz).

    `version` is the number of one of the profile's versions. `bridge` says that RustPBX's bridge has dialled,
    which knows no JSON.
    """

    profile: str | None = None
    caller: str | None = None
    callee: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    binary: bool = False
    bridge: bool = False
    rate: int = SAMPLE_RATE
    version: int | None = None


ClientMessage = Configure | Ping | Disconnect | Audio | Key | Typed


# --- Server to client -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A message with a timestamp in ms since 1970, a non-negative integer as the client demands."""

    type: ClassVar[str]
    timestamp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected(Timed):
    """The first message of every connection."""

    type: ClassVar[str] = "connected"
    server: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured(Timed):
    """The answer to `configure`."""

    type: ClassVar[str] = "configured"
    call_id: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcription(Timed):
    """What the caller said: a partial (`is_final` false) replaces the one before it."""

    type: ClassVar[str] = "transcription"
    text: str
    is_final: bool
    language: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResponse(Timed):
    """What the model wrote: a sentence (`is_complete` false) or the whole reply (true)."""

    type: ClassVar[str] = "llm_response"
    text: str
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TTSStarted(Timed):
    """The agent starts to speak this sentence."""

    type: ClassVar[str] = "tts_started"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TTSCompleted(Timed):
    """The agent has spoken this; shorter than what was started if the caller interrupted."""

    type: ClassVar[str] = "tts_completed"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics(Timed):
    """One measured `duration` in ms; `key` is stt, llm_ttft, tts_ttfb or turn_latency."""

    type: ClassVar[str] = "metrics"
    key: str
    duration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Error(Timed):
    """Something failed; the call goes on unless the socket closes, too."""

    type: ClassVar[str] = "error"
    message: str
    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPing(Timed):
    """Sent to release the client's lock; no answer is expected."""

    type: ClassVar[str] = "ping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pong(Timed):
    """The answer to `ping`, with its timestamp."""

    type: ClassVar[str] = "pong"
