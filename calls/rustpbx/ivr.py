"""What RustPBX's step IVR asks, what follows, and how that is answered. No I/O.

No answer may leave the caller in silence: RustPBX has several that do, which are never given. A transfer is
always one whose result we hear of; a `hangup` has no `prompt`, with which it would not hang up; a file is a
URL of ours, as one that is missing is silence for good.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from calls.models import Decision, SessionState
from calls.rustpbx import sip
from calls.rustpbx.codec import refuse_constant
from calls.rustpbx.url import BRIDGE

SOCKET_PATH = "/ws/rustpbx"
QUEUE_S = 120  # in a queue; then the agent is back
MOST_BRIDGES = 20  # of one call: more than people need, and an end to what goes round in circles
HEADER_CHARS = 500
NOBODY = sip.Address("")


class Unusable(ValueError):
    """A question that is none; the text says what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Step:
    """A question.

    Attributes:
        session_id: the PBX's name for the call.
        event: what happened: session_start, transfer_result, audio_complete or another.
        connected: of a transfer_result: whether the target had answered.
        bridge: the number of the audio connection that has ended, None if it does not say one.
        returned_from: what has sent the caller here, "" at the call's beginning and after a queue.
        headers: those of the INVITE that are to be kept.
    """

    session_id: str
    event: str
    caller: sip.Address = NOBODY
    callee: sip.Address = NOBODY
    connected: bool = False
    bridge: int | None = None
    returned_from: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_first(self) -> bool:
        """Whether it is asked as the call begins; also when it comes back from a queue."""
        return self.event == "session_start" and not self.returned_from and self.bridge is None

    @property
    def metadata(self) -> dict[str, Any]:
        """What is stored of a call besides who calls whom."""
        told: dict[str, Any] = {"from": str(self.caller), "to": str(self.callee)}
        if self.caller.display:
            told["caller_name"] = self.caller.display
        if self.headers:
            told["sip_headers"] = dict(self.headers)
        return told


def decode(body: bytes, kept_headers: Collection[str] = ()) -> Step:
    """Read a question; nothing of it is kept but what Step has: it may hold the caller's credentials.

    Raises:
        Unusable: no JSON object, or no session_id.
    """
    try:
        data = json.loads(body, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Unusable("expected a JSON object, got something else")
    session_id = data.get("session_id")
    if not isinstance(session_id, str) or not session_id:
        raise Unusable("expected a session_id, got none")
    event, variables = _mapping(data.get("event")), _mapping(data.get("variables"))
    number = _text(variables.get("return_bridge"))
    return Step(
        session_id=_storable(session_id),
        event=_text(event.get("type")) or "session_start",
        caller=sip.parse(_text(data.get("caller"))),
        callee=sip.parse(_text(data.get("callee"))),
        connected="target_ended" in map(_text, event.values()),
        bridge=int(number) if number.isascii() and number.isdigit() and len(number) < 6 else None,
        returned_from=_text(variables.get("return_from")),
        headers={
            name: _text(value)[:HEADER_CHARS]
            for name, value in _mapping(data.get("sip_headers")).items()
            if name.lower() in kept_headers
        },
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return _storable(value) if isinstance(value, str) else ""


def _storable(text: str) -> str:
    return text.replace("\x00", "").encode("utf-8", "replace").decode()


# --- What follows -----------------------------------------------------------------------------------------


class Do(Enum):
    """What the PBX is told to do."""

    BRIDGE = SessionState.BRIDGING
    TRANSFER = SessionState.TRANSFERRING
    QUEUE = SessionState.QUEUED
    OVERFLOW = SessionState.OVERFLOWING
    SPEAK = SessionState.SPEAKING
    HANG_UP = SessionState.LEAVING


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a call stands: see PbxSession."""

    state: str
    bridges: int = 0
    decision: str = ""
    destination: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done. `again`: that was answered before, and the same is answered once more."""

    do: Do
    why: str = ""
    again: bool = False


def plan(step: Step, standing: Standing | None) -> Plan:
    """What follows on this question, of a call that stands so (None: it is not known)."""
    if standing is None:
        return _of_unknown(step)
    match step.event:
        case "session_start":
            follows = _of_start(step, standing)
        case "transfer_result":
            follows = _of_transfer(step, standing)
        case "fail":
            follows = _of_failure(standing)
        case _:  # audio_complete, and errors of what was to be played
            follows = Plan(Do.HANG_UP)
    if follows.do is Do.BRIDGE and not follows.again and standing.bridges >= MOST_BRIDGES:
        return Plan(Do.OVERFLOW, "the call went round in circles")
    return follows


def _of_unknown(step: Step) -> Plan:
    """The first question, or one of a call that was not stored: the database was away."""
    match step.event:
        case "session_start":
            return Plan(Do.BRIDGE)
        case "transfer_result" | "fail" if not step.connected:
            return Plan(Do.SPEAK)
        case _:
            return Plan(Do.HANG_UP)


def _of_start(step: Step, standing: Standing) -> Plan:
    """The call's beginning, the end of a bridge or a queue, a rescue, or one of these once more."""
    is_present = step.bridge == standing.bridges or (step.bridge is None and step.returned_from != "")
    match standing.state:
        case SessionState.BRIDGING if is_present:
            return Plan(Do.OVERFLOW, "no audio connection came about")
        case SessionState.TALKING:
            return _of_decision(standing)
        case SessionState.QUEUED if step.bridge is None:
            return Plan(Do.BRIDGE, f"the caller is back from the queue {standing.destination}")
        case SessionState.TRANSFERRING if not is_present:
            return Plan(Do.BRIDGE, f"the transfer to {standing.destination} did not come about")
    return Plan(Do(standing.state), again=True)


def _of_decision(standing: Standing) -> Plan:
    """A bridge has ended on which the agent talked."""
    match standing.decision:
        case Decision.TRANSFER:
            return Plan(Do.TRANSFER)
        case Decision.QUEUE:
            return Plan(Do.QUEUE)
        case Decision.HANG_UP:
            return Plan(Do.HANG_UP)
        case Decision.OVERFLOW:
            return Plan(Do.OVERFLOW, "the agent could not go on")
    return Plan(Do.BRIDGE, "the connection was interrupted")


def _of_transfer(step: Step, standing: Standing) -> Plan:
    if step.connected:
        return Plan(Do.HANG_UP)
    if standing.state == SessionState.BRIDGING:
        return Plan(Do.BRIDGE, again=True)  # asked a second time
    if standing.state == SessionState.TRANSFERRING:
        return Plan(Do.BRIDGE, f"nobody answered at {standing.destination}")
    return Plan(Do.SPEAK)


def _of_failure(standing: Standing) -> Plan:
    """What was answered could not even be begun."""
    match standing.state:
        case SessionState.BRIDGING:
            return Plan(Do.OVERFLOW, "no audio connection came about")
        case SessionState.TRANSFERRING | SessionState.QUEUED:
            return Plan(Do.BRIDGE, f"the transfer to {standing.destination} did not come about")
        case SessionState.OVERFLOWING:
            return Plan(Do.SPEAK)
    return Plan(Do.HANG_UP)


# --- The answers ------------------------------------------------------------------------------------------


def bridge_uri(agent_url: str, *, rate: int, timeout_ms: int, ticket: str, number: int) -> str:
    """The address that RustPBX is to connect a call's audio with.

    It eats `samplerate`, `timeout_ms` and `return_*`; the latter come back when the connection ends.
    """
    parts = urlsplit(agent_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    query = {
        "client": BRIDGE,
        "samplerate": rate,
        "rate": rate,
        "timeout_ms": timeout_ms,
        "ticket": ticket,
        "return_from": BRIDGE,
        "return_bridge": number,
    }
    path = parts.path.rstrip("/") + SOCKET_PATH
    # RustPBX replaces $name$ in it: a dollar must not stand there as it is.
    return urlunsplit((scheme, parts.netloc, path, urlencode(query), "")).replace("$", "%24")


def bridge(uri: str, return_target: str) -> dict[str, Any]:
    """Connect the call's audio; without `return_app` the caller would stay in silence at its end."""
    return {"type": "bridge", "create_room_uri": uri, "return_app": "ivr", "return_target": return_target}


def transfer(target: str) -> dict[str, Any]:
    """Ring the target and tell us what came of it."""
    return {"type": "transfer", "target": target, "wait_for_result": True}


def queue(target: str, return_target: str) -> dict[str, Any]:
    """Wait in a queue and come back. No music: with it nobody there hears the caller."""
    return {
        "type": "queue",
        "target": target,
        "return_app": "ivr",
        "return_target": return_target,
        "wait_timeout_secs": QUEUE_S,
    }


def speak(url: str) -> dict[str, Any]:
    """Play the WAV of this URL, then hang up."""
    return {"type": "prompt", "file": url, "next": hang_up()}


def hang_up() -> dict[str, Any]:
    """End the call, 3 s later."""
    return {"type": "hangup"}
