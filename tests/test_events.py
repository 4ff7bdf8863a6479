"""Every event is told to RustPBX, or knowingly is not; the same of what is stored."""

import inspect
import re
from typing import get_args

from calls import events
from calls.recorder import rows
from calls.rustpbx import outgoing

EVENTS = {event.__name__ for event in get_args(events.Event)}
# RustPBX knows no such messages, or its side brought them about.
NOT_TOLD = {
    "Answering", "Awaiting", "Began", "Commanded", "Described", "Ended", "HungUp", "Interrupted",
    "KeyPressed", "Misused", "PromptChanged", "Refused", "Shortened", "TransferFailed", "Transferred",
    "Transferring", "Turn", "WentOn",
}  # fmt: skip
# Their words and figures are stored with the turn.
NOT_STORED = {"Awaiting", "Heard", "Measured", "Said", "Saying", "Wrote"}


def test_an_event_is_told_or_knowingly_not():
    told = {event.__name__ for event in outgoing._MESSAGES}
    assert told | NOT_TOLD == EVENTS
    assert not told & NOT_TOLD


def test_an_event_is_stored_or_knowingly_not():
    stored = set(re.findall(r"case events\.(\w+)\(", inspect.getsource(rows)))
    assert stored | NOT_STORED == EVENTS
    assert not stored & NOT_STORED
