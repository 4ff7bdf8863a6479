"""A long call in parts: so many of its turns and of its events at a time."""

from copy import copy
from dataclasses import dataclass
from typing import Generic, TypeVar

from django.db.models import Max

from calls.events import KEYS_WITHIN_S
from calls.models import CallEvent, CallSession, EventKind, Turn

PART = 200  # turns, or events

Row = TypeVar("Row", Turn, CallEvent)


@dataclass(frozen=True)
class Part(Generic[Row]):
    """Some of a call's turns or events, in order: those from number `first` on, of `count`."""

    rows: list[Row]
    first: int
    count: int

    @property
    def is_all(self) -> bool:
        """Whether there are no others."""
        return self.count <= PART

    @property
    def last(self) -> int:
        """The number of the last one."""
        return min(self.first + PART, self.count) - 1

    @property
    def previous(self) -> int | None:
        """The number that the part before begins with; None for the first part."""
        return self.first - PART if self.first else None

    @property
    def next(self) -> int | None:
        """The number that the part after begins with; None for the last part."""
        return self.first + PART if self.first + PART < self.count else None


def turns_of(call: CallSession, wanted: str) -> Part[Turn]:
    """Return the part of the call's turns that has the turn with the number `wanted`.

    Of what is no number the first part, of a number too high the last one.
    """
    highest = call.turns.aggregate(highest=Max("index"))["highest"]
    count = 0 if highest is None else highest + 1
    first = _first(wanted, count)
    return Part(list(call.turns.filter(index__gte=first, index__lt=first + PART)), first, count)


def events_of(call: CallSession, wanted: str) -> Part[CallEvent]:
    """Return the part of the call's events that has the one with the number `wanted`, as `turns_of` does.

    Such as "1500ms" wants the first event at that time.
    """
    count = call.events.count()
    if wanted.endswith("ms"):
        ms = _number(wanted.removesuffix("ms"))
        wanted = str(call.events.filter(ms__lt=ms).count())
    first = _first(wanted, count)
    return Part(list(call.events.all()[first : first + PART]), first, count)


def span_of(call: CallSession, turns: Part[Turn]) -> tuple[int, int | None]:
    """Return from when to when, in ms from the call's start, the part of the turns goes; None: to the end."""
    if not turns.rows:
        return 0, None
    start = turns.rows[0].start_ms if turns.first else 0
    return start, None if turns.next is None else max(turn.end_ms or turn.start_ms for turn in turns.rows)


def marks_between(
    call: CallSession, events: Part[CallEvent], start_ms: int, end_ms: int | None
) -> list[CallEvent]:
    """Return what to mark in the picture of this part of the call, at most `PART` events.

    `events` are those that are read already; if there are no others they will do.
    """
    if events.is_all and end_ms is None:
        return [event for event in events.rows if event.ms >= start_ms]
    marked = call.events.filter(ms__gte=start_ms).exclude(kind=EventKind.CONFIGURATION)
    if end_ms is not None:
        marked = marked.filter(ms__lte=end_ms)
    return list(marked[:PART])


def keys_together(events: list[CallEvent]) -> list[CallEvent]:
    """Return the events with the keys of one input, such as a number and its "#", as one event: the first."""
    shown: list[CallEvent] = []
    last_ms = 0  # of the latest key, if the event before is one
    for event in events:
        goes_on = shown and shown[-1].kind == event.kind == EventKind.KEY
        if goes_on and event.ms - last_ms <= KEYS_WITHIN_S * 1000:
            shown[-1].message += f" {event.detail.get('digit', '')}"
        elif event.kind == EventKind.KEY:
            first = copy(event)
            first.detail = {}  # it says no more than the message
            shown.append(first)
        else:
            shown.append(event)
        last_ms = event.ms
    return shown


def _first(wanted: str, count: int) -> int:
    """Return the number that the part with the number `wanted` begins with."""
    return max(0, min(_number(wanted), count - 1)) // PART * PART


def _number(text: str) -> int:
    """Return the number that an address has; 0 for what is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
