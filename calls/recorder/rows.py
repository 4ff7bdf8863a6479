"""From what happened in a call to the rows that are stored of it."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.conf import settings

from calls import events
from calls.models import EventKind
from calls.recorder.writer import DescriptionRow, Recorder

# Latencies of a turn as they are stored.
LATENCY_KEYS = {"stt_ms": "stt", "llm_ms": "llm_ttft", "tts_ms": "tts_ttfb", "total_ms": "turn_latency"}
TURN_FIELDS = ("index", "speaker", "text", "start_ms", "end_ms", "interrupted", "language")


class CallRows:
    """Stores one call: takes its events, hands rows to the recorder."""

    def __init__(self, recorder: Recorder, call_id: UUID) -> None:
        self._recorder = recorder
        self._id = call_id
        self._began = time.monotonic()

    def __call__(self, event: events.Event) -> None:
        """Store the event, if such events are stored."""
        match event:
            case events.Began():
                self._begin(event)
            case events.Described(request):
                self._recorder.describe(self._description(request))
            case events.Turn():
                self._turn(event)
            case events.Interrupted(spoken):
                self._event(EventKind.INTERRUPTION, "the caller interrupted the agent", spoken=spoken)
            case events.PromptChanged(system_prompt):
                self._event(
                    EventKind.CONFIGURATION, "the client changed its prompt", system_prompt=system_prompt
                )
            case events.Failed(part, message):
                self._event(EventKind.PROVIDER_FAILURE, message, provider=part)
            case events.Misused(code, message):
                self._event(EventKind.ERROR, message, code=code)
            case events.Ended():
                self._end(event)

    def _begin(self, event: events.Began) -> None:
        self._began = time.monotonic()
        self._recorder.start(
            {
                **self._description(event.request),
                "profile_id": event.profile_id,
                "config": dict(event.configuration),
                "started_at": event.started_at,
                "remote_address": event.remote_address,
                "node": settings.NODE_NAME,
            }
        )

    def _turn(self, turn: events.Turn) -> None:
        fields = asdict(turn)
        latency: Mapping[str, Any] = {
            key: fields[name] for name, key in LATENCY_KEYS.items() if fields[name] is not None
        }
        row: Any = {"session_id": self._id, "latency": latency, **{n: fields[n] for n in TURN_FIELDS}}
        self._recorder.turn(row)

    def _end(self, event: events.Ended) -> None:
        self._recorder.finish(
            {
                "id": self._id,
                "status": event.status,
                "end_reason": event.reason,
                "ended_at": event.ended_at,
                "audio_in_s": event.audio_in_s,
                "audio_out_s": event.audio_out_s,
                "client_generation": event.client,
                "error": event.error,
            }
        )

    def _event(self, kind: EventKind, message: str, **detail: Any) -> None:
        ms = round((time.monotonic() - self._began) * 1000)
        self._recorder.event(
            {"session_id": self._id, "ms": ms, "kind": kind, "detail": {"message": message, **detail}}
        )

    def _description(self, request: events.Request) -> DescriptionRow:
        return {
            "id": self._id,
            "room_id": request.room_id,
            "caller": request.caller or "",
            "callee": request.callee or "",
            "metadata": dict(request.metadata),
            "client_configs": {
                "system_prompt": request.system_prompt,
                "stt": request.stt,
                "llm": request.llm,
                "tts": request.tts,
            },
        }
