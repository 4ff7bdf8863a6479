"""A browser that tries the agent out: 16 kHz binary audio both ways, and what happens as JSON. No I/O.

Its call begins with its socket and ends with it. A browser that types sends its text instead of audio.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from calls import events
from calls.rustpbx.codec import refuse_constant, refuse_unstorable_text
from calls.rustpbx.messages import Disconnect, ErrorCode, ProtocolError, Timed, Typed
from calls.rustpbx.outgoing import now_ms

# Voice is sent this early, so that the browser has it in hand when the network stalls. It costs no time: the
# first of it comes at once, and an interruption takes back what has not been played.
LEAD_S = 0.120
MAX_TEXT_BYTES = 8 * 1024
MOST_CHARS = 2000  # of what is typed at once


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMessage(Timed):
    """A turn as far as it is known; one of the same index takes the place of what was there."""

    type: ClassVar[str] = "turn"
    index: int
    speaker: str
    text: str
    start_ms: int
    end_ms: int | None
    interrupted: bool
    final: bool
    end_of_turn_ms: int | None
    stt_ms: int | None
    llm_ms: int | None
    tts_ms: int | None
    total_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardMessage(Timed):
    """Words of the caller, as they are understood so far."""

    type: ClassVar[str] = "heard"
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InterruptedMessage(Timed):
    """The caller took over: what has come of the agent's voice and was not played is not to be played."""

    type: ClassVar[str] = "interrupted"


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteMessage(Timed):
    """Something the person should know, such as that a provider failed."""

    type: ClassVar[str] = "note"
    text: str


def message_of(event: events.Event) -> Timed | None:
    """The message for a browser, with the present time; None if it is not told of such events."""
    make = _MESSAGES.get(type(event))
    return make(event, now_ms()) if make else None


def decode_text(text: str) -> Typed | Disconnect:
    """Read a text message: `{"type":"say","text":"…"}` or `{"type":"hang_up"}`.

    Raises:
        ProtocolError: anything else (400), too long a text (413), one that cannot be stored (422).
    """
    if len(text) > MAX_TEXT_BYTES:
        raise ProtocolError(
            ErrorCode.TOO_LARGE, f"expected at most {MAX_TEXT_BYTES} characters a message, got {len(text)}"
        )
    try:
        data = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        data = None
    match data:
        case {"type": "hang_up"}:
            return Disconnect("")
        case {"type": "say", "text": str() as said} if 0 < len(said.strip()) <= MOST_CHARS:
            refuse_unstorable_text(said)
            return Typed(said.strip())
    message = f"expected a text of 1 to {MOST_CHARS} characters or a hang-up, got another message"
    raise ProtocolError(ErrorCode.MALFORMED, message)


def _turn(turn: events.Turn, now: int) -> Timed:
    names = (name for name in TurnMessage.__dataclass_fields__ if name not in ("type", "timestamp"))
    return TurnMessage(timestamp=now, **{name: getattr(turn, name) for name in names})


def _heard(event: events.Heard, now: int) -> Timed | None:
    return None if event.is_final else HeardMessage(timestamp=now, text=event.text)


def _failed(event: events.Failed | events.StoodIn | events.Shortened, now: int) -> Timed:
    return NoteMessage(timestamp=now, text=f"{event.part}: {event.message}")


_MESSAGES: dict[type, Callable[[Any, int], Timed | None]] = {
    events.Turn: _turn,
    events.Heard: _heard,
    events.Interrupted: lambda _, now: InterruptedMessage(timestamp=now),
    events.Failed: _failed,
    events.StoodIn: _failed,
    events.Shortened: _failed,
}
