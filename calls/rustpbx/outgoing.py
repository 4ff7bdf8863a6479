"""From what happened in a call to the message that tells RustPBX of it."""

import time
from collections.abc import Callable
from typing import Any

from calls import events
from calls.rustpbx import messages
from calls.rustpbx.messages import ErrorCode, Timed

# RustPBX's names of the latencies it knows.
METRIC_KEYS = {"stt": "stt", "llm": "llm_ttft", "tts": "tts_ttfb", "total": "turn_latency"}


def now_ms() -> int:
    """Milliseconds since 1970, as RustPBX counts time."""
    return time.time_ns() // 1_000_000


def message_of(event: events.Event) -> Timed | None:
    """The message for RustPBX, with the present time; None if it is not told of such events."""
    make = _MESSAGES.get(type(event))
    return make(event, now_ms()) if make else None


def _transcription(event: events.Heard, now: int) -> Timed:
    return messages.Transcription(
        timestamp=now, text=event.text, is_final=event.is_final, language=event.language
    )


def _llm_response(event: events.Wrote, now: int) -> Timed:
    return messages.LLMResponse(timestamp=now, text=event.text, is_complete=event.is_complete)


def _tts_started(event: events.Saying, now: int) -> Timed:
    return messages.TTSStarted(timestamp=now, text=event.text)


def _tts_completed(event: events.Said, now: int) -> Timed:
    return messages.TTSCompleted(timestamp=now, text=event.text)


def _metrics(event: events.Measured, now: int) -> Timed | None:
    key = METRIC_KEYS.get(event.what)
    return messages.Metrics(timestamp=now, key=key, duration=event.ms) if key else None


def _error(event: events.Failed | events.StoodIn, now: int) -> Timed:
    return messages.Error(timestamp=now, message=f"{event.part}: {event.message}", code=ErrorCode.PROVIDER)


_MESSAGES: dict[type, Callable[[Any, int], Timed | None]] = {
    events.Heard: _transcription,
    events.Wrote: _llm_response,
    events.Saying: _tts_started,
    events.Said: _tts_completed,
    events.Measured: _metrics,
    events.Failed: _error,
    events.StoodIn: _error,
}
