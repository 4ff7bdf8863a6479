"""From what happened in a call to the rows that are stored of it."""

import time
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

from calls import events
from calls.models import (
    CallEnd,
    CallProgress,
    CallStart,
    Description,
    EventKind,
    EventRow,
    Severity,
    TurnRow,
)
from calls.process import this_process
from calls.recorder.writer import Recorder


class CallRows:
    """Stores one call: takes its events, hands rows to the recorder."""

    def __init__(self, recorder: Recorder, call_id: UUID) -> None:
        self._recorder = recorder
        self._id = call_id
        self._began = time.monotonic()
        self._misuses: dict[tuple[int, str], EventRow] = {}

    def __call__(self, event: events.Event) -> None:
        """Store the event, if such events are stored."""
        match event:
            case events.Began():
                self._begin(event)
            case events.Described(request):
                self._recorder.describe(self._id, _description(request))
            case events.Answering(in_force):
                self._recorder.answered_by(self._id, in_force)
            case events.Turn():
                self._recorder.turn(TurnRow(session_id=self._id, **asdict(event)))
            case events.Commanded():
                self._command(event)
            case events.WentOn():
                self._go_on(event)
            case events.Ended():
                self._end(event)
            case _:
                self._store_event(event)

    def _store_event(self, event: events.Event) -> None:
        match event:
            case events.Interrupted(spoken, turn):
                message = "the caller interrupted the agent"
                self._event(EventKind.INTERRUPTION, Severity.INFO, message, turn=turn, spoken=spoken)
            case events.PromptChanged(system_prompt):
                message = "the client changed its prompt"
                self._event(EventKind.CONFIGURATION, Severity.INFO, message, system_prompt=system_prompt)
            case events.KeyPressed(digit):
                self._event(EventKind.KEY, Severity.INFO, f"the caller pressed {digit}", digit=digit)
            case events.HungUp(refused, why):
                self._hang_up(refused, why)
            case events.Transferring(destination):
                message = f"the agent transfers the call to {destination}"
                self._event(EventKind.TRANSFER, Severity.INFO, message, destination=destination)
            case events.TransferFailed(destination, why):
                message = f"the transfer to {destination} failed: {why}"
                self._event(EventKind.TRANSFER, Severity.WARNING, message, destination=destination, why=why)
            case events.Transferred(destination):
                message = f"{destination} has taken the call"
                self._event(EventKind.TRANSFER, Severity.INFO, message, destination=destination)
            case events.Misused():
                self._misuse(event)
            case events.Refused(why):
                self._event(EventKind.ERROR, Severity.ERROR, why)
            case events.Failed():
                severity = Severity.ERROR if event.caller_waits else Severity.WARNING
                self._failure(event, severity)
            case events.StoodIn():
                self._failure(event, Severity.ERROR)
            case events.Shortened():
                self._about_provider(EventKind.SHORTENED, event, Severity.WARNING)

    def _begin(self, event: events.Began) -> None:
        self._began = time.monotonic()
        self._recorder.start(
            CallStart(
                id=self._id,
                version_id=event.version_id,
                description=_description(event.request),
                started_at=event.started_at,
                remote_address=event.remote_address,
                node_id=this_process.boot,
                is_test=event.request.is_test,
                profile_id=event.profile_id,
                draft=event.draft,
            )
        )

    def _go_on(self, event: events.WentOn) -> None:
        progress = CallProgress(
            audio_in_s=event.audio_in_s,
            audio_out_s=event.audio_out_s,
            client_generation=event.client,
            last_audio_at=event.last_audio_at,
        )
        self._recorder.go_on(self._id, progress)

    def _command(self, event: events.Commanded) -> None:
        severity = Severity.INFO if event.ok else Severity.WARNING
        words = f" “{event.argument}”" if event.argument and event.verb != "prompt" else ""
        message = f"{event.by or 'a program'}: {event.verb}{words}: {event.answer}"
        self._event(
            EventKind.COMMAND, severity, message, verb=event.verb, argument=event.argument, by=event.by
        )

    def _hang_up(self, refused: str, why: str) -> None:
        message = f"the agent hung up, as {why}" if why else "the agent hung up"
        if refused:
            message = f"{why}; " if why else ""
            message += f"the caller's telephone was not hung up: {refused}"
        self._event(EventKind.HANG_UP, Severity.WARNING if refused else Severity.INFO, message)

    def _misuse(self, event: events.Misused) -> None:
        """Store it once, with how often it came."""
        first = self._misuses.get((event.code, event.message))
        if first is None:
            detail = {"code": event.code}
            first = EventRow(
                self._id, self._ms(), EventKind.ERROR, Severity.ERROR, event.message, detail=detail
            )
            self._misuses[event.code, event.message] = first
        if event.count > 1:
            first = replace(
                first,
                message=f"{event.message} ({event.count} times)",
                detail={**first.detail, "count": event.count},
            )
        self._recorder.event(first)

    def _end(self, event: events.Ended) -> None:
        self._recorder.finish(
            CallEnd(
                id=self._id,
                status=event.status,
                end_reason=event.reason,
                ended_at=event.ended_at,
                audio_in_s=event.audio_in_s,
                audio_out_s=event.audio_out_s,
                client_generation=event.client,
                error=event.error,
            )
        )

    def _failure(self, event: events.Failed | events.StoodIn, severity: Severity) -> None:
        self._about_provider(EventKind.PROVIDER_FAILURE, event, severity)

    def _about_provider(
        self, kind: EventKind, event: events.Failed | events.StoodIn | events.Shortened, severity: Severity
    ) -> None:
        provider = f"{event.part}/{event.provider}" if event.provider else event.part
        self._event(kind, severity, event.message, provider=provider)

    def _event(
        self,
        kind: EventKind,
        severity: Severity,
        message: str,
        *,
        provider: str = "",
        turn: int | None = None,
        **detail: Any,
    ) -> None:
        self._recorder.event(EventRow(self._id, self._ms(), kind, severity, message, provider, turn, detail))

    def _ms(self) -> int:
        return round((time.monotonic() - self._began) * 1000)


def _description(request: events.Request) -> Description:
    return Description(
        room_id=request.room_id,
        caller=request.caller or "",
        callee=request.callee or "",
        metadata=dict(request.metadata),
        client_configs={
            "system_prompt": request.system_prompt,
            "stt": request.stt,
            "llm": request.llm,
            "tts": request.tts,
        },
    )
