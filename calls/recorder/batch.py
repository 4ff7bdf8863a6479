"""Rows that wait to be written, and the one transaction that writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import transaction

from calls.models import (
    CallEnd,
    CallEvent,
    CallProgress,
    CallSession,
    CallStart,
    Description,
    EventRow,
    Turn,
    TurnRow,
)
from calls.recorder import notify as live


@dataclass(slots=True)
class Batch:
    """Rows that wait to be written. A turn replaces the same turn that has not been written yet."""

    starts: dict[UUID, CallStart] = field(default_factory=dict)
    descriptions: dict[UUID, Description] = field(default_factory=dict)
    answers: dict[UUID, Mapping[str, Any]] = field(default_factory=dict)
    progress: dict[UUID, CallProgress] = field(default_factory=dict)
    turns: dict[tuple[UUID, int], TurnRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    finishes: dict[UUID, CallEnd] = field(default_factory=dict)

    def __len__(self) -> int:
        calls = len(self.starts) + len(self.descriptions) + len(self.answers) + len(self.finishes)
        return calls + len(self.progress) + len(self.turns) + len(self.events)

    def write(self) -> None:
        """Write every row in one transaction. Raises what the database raises; then nothing is written."""
        with transaction.atomic():
            for start in self.starts.values():
                CallSession.objects.start(start)
            for call_id, description in self.descriptions.items():
                CallSession.objects.describe(call_id, description)
            for call_id, in_force in self.answers.items():
                CallSession.objects.answered_by(call_id, in_force)
            for call_id, progress in self.progress.items():
                CallSession.objects.go_on(call_id, progress)
            if self.turns:
                Turn.objects.record(self.turns.values())
            if self.events:
                CallEvent.objects.record(self.events)
            for end in self.finishes.values():
                CallSession.objects.finish(end)

    def parts(self) -> "list[Batch]":
        """The same rows in smaller batches: one a call, or of one call one a row, in the order of writing."""
        calls = self._by_call()
        return calls if len(calls) > 1 else self._by_row()

    def _by_row(self) -> "list[Batch]":
        return [
            *(Batch(starts={id: start}) for id, start in self.starts.items()),
            *(Batch(descriptions={id: description}) for id, description in self.descriptions.items()),
            *(Batch(answers={id: in_force}) for id, in_force in self.answers.items()),
            *(Batch(progress={id: progress}) for id, progress in self.progress.items()),
            *(Batch(turns={key: turn}) for key, turn in self.turns.items()),
            *(Batch(events=[event]) for event in self.events),
            *(Batch(finishes={id: end}) for id, end in self.finishes.items()),
        ]

    def _by_call(self) -> "list[Batch]":
        batches: dict[UUID, Batch] = {}

        def of(call_id: UUID) -> Batch:
            return batches.setdefault(call_id, Batch())

        for call_id, start in self.starts.items():
            of(call_id).starts[call_id] = start
        for call_id, description in self.descriptions.items():
            of(call_id).descriptions[call_id] = description
        for call_id, in_force in self.answers.items():
            of(call_id).answers[call_id] = in_force
        for call_id, progress in self.progress.items():
            of(call_id).progress[call_id] = progress
        for key, turn in self.turns.items():
            of(key[0]).turns[key] = turn
        for event in self.events:
            of(event.session_id).events.append(event)
        for call_id, end in self.finishes.items():
            of(call_id).finishes[call_id] = end
        return list(batches.values())

    def calls(self) -> set[UUID]:
        """The calls whose rows these are."""
        return {
            *self.starts, *self.descriptions, *self.answers, *self.progress, *self.finishes,
            *(call_id for call_id, _ in self.turns), *(event.session_id for event in self.events),
        }  # fmt: skip

    def add(self, later: "Batch") -> None:
        """Take a later batch's rows, too: of two rows for the same thing the later counts."""
        self.starts |= later.starts
        self.descriptions |= later.descriptions
        self.answers |= later.answers
        self.progress |= later.progress
        self.turns |= later.turns
        self.events += later.events
        self.finishes |= later.finishes

    def changes(self) -> list[live.CallChanged]:
        """What to tell the watchers once this is written."""
        changed = [*self.descriptions, *self.answers, *(event.session_id for event in self.events)]
        return [
            *(live.started(call_id) for call_id in self.starts),
            *(live.turn(call_id, index) for call_id, index in self.turns),
            *map(live.event, dict.fromkeys(changed)),
            *(live.finished(call_id) for call_id in self.finishes),
        ]
