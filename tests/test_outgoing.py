"""What happened in a call, as RustPBX is told of it."""

from datetime import UTC, datetime

import pytest

from calls import events
from calls.rustpbx import messages
from calls.rustpbx.incoming import request_of
from calls.rustpbx.messages import Configure, Url
from calls.rustpbx.outgoing import message_of


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (
            events.Heard("hello", is_final=True, language="en"),
            messages.Transcription(timestamp=0, text="hello", is_final=True, language="en"),
        ),
        (
            events.Wrote("Yes.", is_complete=False),
            messages.LLMResponse(timestamp=0, text="Yes.", is_complete=False),
        ),
        (events.Saying("Yes."), messages.TTSStarted(timestamp=0, text="Yes.")),
        (events.Said("Ye"), messages.TTSCompleted(timestamp=0, text="Ye")),
        (events.Measured("llm", 12), messages.Metrics(timestamp=0, key="llm_ttft", duration=12)),
        (events.Measured("total", 7), messages.Metrics(timestamp=0, key="turn_latency", duration=7)),
        (events.Failed("tts", "gone"), messages.Error(timestamp=0, message="tts: gone", code=502)),
    ],
)
def test_what_rustpbx_is_told(event, message, monkeypatch):
    monkeypatch.setattr("calls.rustpbx.outgoing.now_ms", lambda: 0)
    assert message_of(event) == message


@pytest.mark.parametrize(
    "event",
    [
        events.Measured("end_of_turn", 5),  # not of RustPBX's protocol
        events.Turn("caller", 0, text="hello"),
        events.Interrupted("Ye", 1),
        events.Awaiting("llm"),
        events.WentOn(1.0, 1.0, "free", None),
        events.Misused(422, "wrong"),  # the connection has told it already
        events.Ended("closed", "completed", datetime.now(UTC), 0.0, 0.0, "free", ""),
    ],
)
def test_what_rustpbx_is_not_told(event):
    assert message_of(event) is None


def test_the_url_says_what_configure_does_not():
    url = Url(profile="sales", caller="+49 30 1", callee="100", metadata={"a": 1})
    request = request_of(Configure(room_id="r", caller="+49 30 2"), url)
    assert (request.profile, request.caller, request.callee) == ("sales", "+49 30 2", "100")
    assert request.metadata == {"a": 1}
    assert request_of(Configure(room_id="r", metadata={"b": 2}), url).metadata == {"b": 2}
