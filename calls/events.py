"""What happens in a call, as plain facts: the one language between the rooms.

The pipeline and the call say what happened; mappers make of it what they need: RustPBX's messages
(`calls.rustpbx.outgoing`), rows of the database (`calls.recorder.rows`). Another protocol or page is another
mapper. All times are milliseconds since the call's start unless a name says otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

CALLER, AGENT = "caller", "agent"
STT, LLM, TTS, PIPELINE = "stt", "llm", "tts", "pipeline"
UNNUMBERED = -1
KEYS_PRESSED = "Keys pressed: "  # begins what a caller's turn says of the keys he pressed
KEYS_WITHIN_S = 2.0  # between two keys of one turn; "#" ends it at once


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for at the start of a call; None where it said nothing."""

    room_id: str = ""
    system_prompt: str | None = None
    stt: Mapping[str, Any] | None = None
    llm: Mapping[str, Any] | None = None
    tts: Mapping[str, Any] | None = None
    profile: str | None = None
    caller: str | None = None
    callee: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    call_id: UUID | None = None  # of the call's row, if there is one already
    is_test: bool = False  # somebody tries the agent out
    version: int | None = None  # the number of the profile's version, if the client names one


@dataclass(frozen=True, slots=True)
class Began:
    """The call began, with this version of a profile; None for one that nobody answers.

    With None it may try out unsaved values, `draft`, of the profile `profile_id` or of one not stored yet.
    """

    request: Request
    version_id: int | None
    started_at: datetime
    remote_address: str
    profile_id: int | None = None
    draft: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """The client described a call that audio had begun."""

    request: Request


@dataclass(frozen=True, slots=True)
class Answering:
    """The services are built: what really answers, by part, with every setting in force."""

    in_force: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class PromptChanged:
    """The client sent another system prompt, which is in force from the next reply on."""

    system_prompt: str


@dataclass(frozen=True, slots=True)
class Commanded:
    """Somebody (`by`, "" for a program) told the call what to do, and what came of it; both for people."""

    verb: str
    argument: str
    by: str
    answer: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """Words of the caller; a partial replaces the one before it."""

    text: str
    is_final: bool
    language: str


@dataclass(frozen=True, slots=True)
class Wrote:
    """Text of the language model: a sentence, or the whole reply (`is_complete`)."""

    text: str
    is_complete: bool


@dataclass(frozen=True, slots=True)
class Saying:
    """The agent begins to speak this sentence."""

    text: str


@dataclass(frozen=True, slots=True)
class Said:
    """The agent has spoken this of a sentence: all of it, or up to an interruption."""

    text: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn as far as it is known: it began, went on or ended. The same index replaces what was said before.

    `final`: the text will not be taken back, though it may grow. The latencies belong to an agent's turn and
    count from the end of the caller's speech (`end_of_turn_ms`, `stt_ms`, `total_ms`) or from the request to
    the service (`llm_ms`, `tts_ms`: time to first token, to first byte).
    """

    speaker: str
    start_ms: int
    index: int = UNNUMBERED  # in the order in which turns first had a text
    text: str = ""
    end_ms: int | None = None  # None while it lasts
    interrupted: bool = False
    language: str = ""
    final: bool = False
    end_of_turn_ms: int | None = None
    stt_ms: int | None = None
    llm_ms: int | None = None
    tts_ms: int | None = None
    total_ms: int | None = None

    @property
    def number(self) -> int | None:
        """The index, once it has one."""
        return None if self.index == UNNUMBERED else self.index


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The caller spoke over the agent, whose turn (an index) had got so far."""

    spoken: str
    turn: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """A latency: `what` is a field of Turn without its _ms."""

    what: str
    ms: int


@dataclass(frozen=True, slots=True)
class Awaiting:
    """What is due now: a transcript (stt), the model's next word (llm), its voice (tts), or nothing.

    `goes_on`: of a reply that has begun; else the caller has just said something.
    """

    part: str | None
    goes_on: bool = False


@dataclass(frozen=True, slots=True)
class Failed:
    """A service did not do what it should. `caller_waits`: in vain, as nothing of it will serve."""

    part: str
    message: str
    caller_waits: bool = True
    provider: str = ""  # of this part, as the catalogue names it


@dataclass(frozen=True, slots=True)
class Shortened:
    """Something was left out, of a prompt or of a reply, and why: the part could not do with all of it."""

    part: str
    message: str
    provider: str = ""  # of this part, as the catalogue names it


@dataclass(frozen=True, slots=True)
class StoodIn:
    """A part's provider cannot be used, and why; `by` answers instead, "" is the embedded one."""

    part: str
    provider: str
    why: str
    by: str = ""

    @property
    def message(self) -> str:
        """What happened, for people."""
        return f"{self.why}; {self.by or 'the embedded one, in English,'} stands in"


@dataclass(frozen=True, slots=True)
class Misused:
    """The client sent what cannot be used, and was told so; `code` in HTTP's numbers.

    The same code and message replace what was told before, with another `count`.
    """

    code: int
    message: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """The caller pressed a key of the telephone: a digit, "*", "#" or a letter from A to D."""

    digit: str


@dataclass(frozen=True, slots=True)
class HungUp:
    """The agent has taken leave. `refused` says why the telephone was not hung up, "" if it was.

    `why` it took leave is part of a sentence, "" if that is plain.
    """

    refused: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Transferring:
    """The call is to be transferred; the agent says so, then it is handed on."""

    destination: str


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """The call was not taken where it was transferred to, and goes on with the agent."""

    destination: str
    why: str


@dataclass(frozen=True, slots=True)
class Transferred:
    """The call has been taken where it was transferred to."""

    destination: str


@dataclass(frozen=True, slots=True)
class WentOn:
    """The call has got so far; audio in seconds. It is what is known of a call that breaks off."""

    audio_in_s: float
    audio_out_s: float
    client: str
    last_audio_at: datetime | None


@dataclass(frozen=True, slots=True)
class Refused:
    """Nobody answers the call, and why."""

    why: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The call is over. `reason` and `status` as they are stored; audio in seconds."""

    reason: str
    status: str
    ended_at: datetime
    audio_in_s: float
    audio_out_s: float
    client: str
    error: str


_OfTheCall = Began | Described | Answering | PromptChanged | Commanded | WentOn | Refused | Ended
_OfTheTalk = Heard | Wrote | Saying | Said | Turn | Interrupted | Measured | KeyPressed
_OfFailures = Awaiting | Failed | Shortened | StoodIn | Misused
_OfLeaving = HungUp | Transferring | TransferFailed | Transferred
Event = _OfTheCall | _OfTheTalk | _OfFailures | _OfLeaving
Sink = Callable[[Event], None]
"""Takes events as they happen. It must not wait: it is called for every word."""
