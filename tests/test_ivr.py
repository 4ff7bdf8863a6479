"""What RustPBX's IVR asks, what follows, and the answers: none leaves the caller in silence."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.models import Decision, SessionState
from calls.rustpbx import ivr
from calls.rustpbx.ivr import Do, Plan, Standing, Step, Unusable, decode, plan

START = {"type": "session_start"}


def asked(event=START, **fields):
    """A question as RustPBX 0.5 puts it."""
    body = {
        "session_id": "a1b2@10.0.0.4",
        "caller": "sip:1001@10.0.0.9:5060",
        "callee": "sip:agent@10.0.0.4:5060;transport=UDP",
        "direction": "inbound",
        "variables": {"sip_Authorization": 'Digest username="1001"', "sip_X_Foo": "1"},
        "sip_headers": {"Authorization": 'Digest username="1001"', "X-Customer": "7", "x-other": "8"},
        "event": event,
        "step_index": 0,
    }
    return json.dumps(body | fields).encode()


def test_a_question_is_read_and_nothing_of_credentials_kept():
    step = decode(asked(), {"x-customer"})
    assert (step.session_id, step.event) == ("a1b2@10.0.0.4", "session_start")
    assert (step.caller.name, step.callee.name) == ("1001", "agent")
    assert step.headers == {"X-Customer": "7"}
    assert "Digest" not in repr(step)


def test_the_end_of_a_bridge_says_which():
    step = decode(asked(variables={"return_from": "bridge", "return_bridge": "3"}))
    assert (step.returned_from, step.bridge) == ("bridge", 3)
    assert decode(asked(variables={"return_bridge": "٣"})).bridge is None
    assert decode(asked(variables={"return_bridge": "9" * 5000})).bridge is None


@pytest.mark.parametrize("name", ["status", "result", "outcome"])
def test_the_result_of_a_transfer_is_read_wherever_it_stands(name):
    ended = decode(asked({"type": "transfer_result", name: "target_ended"}))
    assert (ended.event, ended.connected) == ("transfer_result", True)
    assert not decode(asked({"type": "transfer_result", name: "not_connected"})).connected


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'{"session_id": 5}', b'{"session_id": ""}', b"\xff" * 9])
def test_what_is_no_question(body):
    with pytest.raises(Unusable, match="expected"):
        decode(body)


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_fields_of_any_type_are_read_somehow(value):
    names = ("caller", "callee", "variables", "sip_headers", "event")
    step = decode(json.dumps({"session_id": "x"} | dict.fromkeys(names, value)).encode(), {"a", ""})
    plan(step, None)


BRIDGE_1 = Standing(SessionState.BRIDGING, 1)
TALKS = Standing(SessionState.TALKING, 2)
RINGS = Standing(SessionState.TRANSFERRING, 2, Decision.TRANSFER, "sales")
QUEUES = Standing(SessionState.QUEUED, 2, Decision.QUEUE, "sales")
ELSEWHERE = Standing(SessionState.OVERFLOWING, 1)


def start(bridge=None, of=""):
    return Step("s", "session_start", bridge=bridge, returned_from=of or ("bridge" if bridge else ""))


def rang(connected):
    return Step("s", "transfer_result", connected=connected)


PLAYED = Step("s", "audio_complete")
STRANGE = Step("s", "error")
FAILED = Step("s", "fail")


@pytest.mark.parametrize(
    ("step", "standing", "follows"),
    [
        # The first question, and those of calls that were never stored.
        (start(), None, Plan(Do.BRIDGE)),
        (PLAYED, None, Plan(Do.HANG_UP)),
        (rang(False), None, Plan(Do.SPEAK)),
        (rang(True), None, Plan(Do.HANG_UP)),
        (STRANGE, None, Plan(Do.HANG_UP)),
        # Asked once more, as the answer was late.
        (start(), BRIDGE_1, Plan(Do.BRIDGE, again=True)),
        (start(1), Standing(SessionState.BRIDGING, 2), Plan(Do.BRIDGE, again=True)),
        (start(2), RINGS, Plan(Do.TRANSFER, again=True)),
        (start(2), QUEUES, Plan(Do.QUEUE, again=True)),
        (start(2), Standing(SessionState.LEAVING, 2), Plan(Do.HANG_UP, again=True)),
        (start(), ELSEWHERE, Plan(Do.OVERFLOW, again=True)),
        (start(), Standing(SessionState.SPEAKING, 0), Plan(Do.SPEAK, again=True)),
        (rang(False), Standing(SessionState.BRIDGING, 3), Plan(Do.BRIDGE, again=True)),
        (rang(True), Standing(SessionState.BRIDGING, 3), Plan(Do.HANG_UP)),
        # The connection never came about.
        (start(1), BRIDGE_1, Plan(Do.OVERFLOW, "no audio connection came about")),
        (start(of="rwi"), BRIDGE_1, Plan(Do.OVERFLOW, "no audio connection came about")),
        # The agent talked, and decided.
        (start(2), Standing(SessionState.TALKING, 2, Decision.HANG_UP), Plan(Do.HANG_UP)),
        (start(2), Standing(SessionState.TALKING, 2, Decision.TRANSFER, "sales"), Plan(Do.TRANSFER)),
        (start(2), Standing(SessionState.TALKING, 2, Decision.QUEUE, "sales"), Plan(Do.QUEUE)),
        (start(2), Standing(SessionState.TALKING, 2, Decision.OVERFLOW),
         Plan(Do.OVERFLOW, "the agent could not go on")),
        # Nobody decided: the server died.
        (start(2), TALKS, Plan(Do.BRIDGE, "the connection was interrupted")),
        (start(of="rwi"), TALKS, Plan(Do.BRIDGE, "the connection was interrupted")),
        (start(), TALKS, Plan(Do.BRIDGE, "the connection was interrupted")),
        # Handed on.
        (rang(False), RINGS, Plan(Do.BRIDGE, "nobody answered at sales")),
        (rang(True), RINGS, Plan(Do.HANG_UP)),
        (start(), RINGS, Plan(Do.BRIDGE, "the transfer to sales did not come about")),
        (start(), QUEUES, Plan(Do.BRIDGE, "the caller is back from the queue sales")),
        # Could not be begun.
        (FAILED, None, Plan(Do.SPEAK)),
        (FAILED, BRIDGE_1, Plan(Do.OVERFLOW, "no audio connection came about")),
        (FAILED, RINGS, Plan(Do.BRIDGE, "the transfer to sales did not come about")),
        (FAILED, QUEUES, Plan(Do.BRIDGE, "the transfer to sales did not come about")),
        (FAILED, ELSEWHERE, Plan(Do.SPEAK)),
        (FAILED, Standing(SessionState.SPEAKING, 1), Plan(Do.HANG_UP)),
        # Could not be answered.
        (rang(False), ELSEWHERE, Plan(Do.SPEAK)),
        (rang(True), ELSEWHERE, Plan(Do.HANG_UP)),
        (PLAYED, Standing(SessionState.SPEAKING, 1), Plan(Do.HANG_UP)),
        (STRANGE, Standing(SessionState.SPEAKING, 1), Plan(Do.HANG_UP)),
        # It goes round in circles.
        (start(20), Standing(SessionState.TALKING, 20), Plan(Do.OVERFLOW, "the call went round in circles")),
    ],
)  # fmt: skip
def test_what_follows(step, standing, follows):
    assert plan(step, standing) == follows


EVENTS = ["session_start", "transfer_result", "fail", "audio_complete", "dtmf", "error"]
STEPS = st.builds(
    Step,
    session_id=st.just("s"),
    event=st.sampled_from(EVENTS),
    connected=st.booleans(),
    bridge=st.none() | st.integers(0, 25),
    returned_from=st.sampled_from(["", "bridge", "rwi"]),
)
STANDINGS = st.builds(
    Standing,
    state=st.sampled_from([state for state in SessionState.values if state != SessionState.ENDED]),
    bridges=st.integers(0, 25),
    decision=st.sampled_from(["", *Decision.values]),
    destination=st.just("sales"),
)


@given(STEPS, STANDINGS)
def test_something_always_follows(step, standing):
    follows = plan(step, standing)
    assert follows.do in Do
    assert follows.do is not Do.BRIDGE or follows.again or standing.bridges < ivr.MOST_BRIDGES


def test_the_address_of_a_bridge():
    audio = {"rate": 16000, "timeout_ms": 2500}
    uri = ivr.bridge_uri("https://agent.example.org/x/", **audio, ticket="a$b&c", number=4)
    assert "$" not in uri
    parts = urlsplit(uri)
    assert (parts.scheme, parts.netloc, parts.path) == ("wss", "agent.example.org", "/x/ws/rustpbx")
    assert {name: values for name, (values,) in parse_qs(parts.query).items()} == {
        "client": "bridge", "samplerate": "16000", "rate": "16000", "timeout_ms": "2500", "ticket": "a$b&c",
        "return_from": "bridge", "return_bridge": "4",
    }  # fmt: skip
    assert ivr.bridge_uri("http://a$x$:1", **audio, ticket="", number=1).startswith("ws://a%24x%24")


def test_the_answers_have_none_of_what_leaves_the_caller_in_silence():
    assert ivr.transfer("sip:200@pbx")["wait_for_result"] is True
    assert ivr.bridge("ws://x", "voiceagent") == {
        "type": "bridge", "create_room_uri": "ws://x", "return_app": "ivr", "return_target": "voiceagent",
    }  # fmt: skip
    assert ivr.hang_up() == {"type": "hangup"}  # with a prompt it would not hang up
    assert ivr.queue("support", "voiceagent")["return_target"] == "voiceagent"
    assert ivr.speak("http://x/a.wav")["next"] == {"type": "hangup"}
