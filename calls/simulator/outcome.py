"""The report on a simulated call: its messages, its conversation and all figures."""

import math
from dataclasses import asdict, dataclass, field
from itertools import groupby, zip_longest
from statistics import fmean
from typing import Any

from calls.simulator.clients import FrameCounts
from calls.simulator.playback import Pacing, Talkspurt
from calls.simulator.script import Step

GRACEFUL_CLOSE = (1000, 1001)
SERVER_ERROR = 500  # and above, as in HTTP: the server's fault
# If a broken server has every message dropped, the first ones are enough to see why.
MAX_DROPPED_KEPT = 100
MAX_DROPPED_TEXT = 500


@dataclass(frozen=True)
class Received:
    """A server message (not audio, not a ping) and when it came, in ms from the call's start."""

    ms: float
    message: dict[str, Any]


@dataclass(frozen=True)
class Dropped:
    """A message that a real client would have dropped: its ms from the call's start, why, and its text."""

    ms: float
    reason: str
    text: str

    @classmethod
    def of(cls, ms: float, reason: str, text: str) -> "Dropped":
        """A dropped message, its text cut to 500 characters."""
        return cls(ms, reason, text[:MAX_DROPPED_TEXT])


@dataclass(frozen=True)
class Line:
    """Who (`caller` or `agent`) said what, known at `ms` from the call's start."""

    ms: float
    speaker: str
    text: str


@dataclass
class CallReport:
    """One call's outcome. Times are from the call's start: in ms where the name says so, else in s.

    `noticed_s` is how long the server took to notice a silent hang-up, `pings_unheard` how many of its pings
    came meanwhile.
    """

    url: str
    generation: str
    room_id: str
    frames: FrameCounts = field(default_factory=FrameCounts)
    failure: str | None = None
    duration_s: float = 0.0
    said_all: bool = False
    closed_by: str = "caller"
    close_code: int | None = None
    close_reason: str = ""
    configure_ms: float | None = None
    pings: int = 0
    websocket_pings: int = 0
    audio_messages: int = 0
    misfit_audio: int = 0
    repeated_frame_ids: int = 0
    binary_ignored: int = 0
    dropped_count: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    messages: list[Received] = field(default_factory=list)
    conversation: list[Line] = field(default_factory=list)
    talkspurts: list[Talkspurt] = field(default_factory=list)
    caller_speech: list[tuple[float, float]] = field(default_factory=list)
    awaits_reply: bool = False
    in_vain: list[Step] = field(default_factory=list)
    pacing: Pacing | None = None
    reply: bytes = b""
    unplayed_s: float = 0.0  # of the agent's audio when the connection ended
    noticed_s: float | None = None
    pings_unheard: int = 0

    def drop(self, dropped: Dropped) -> None:
        """Count a dropped message, and keep the first hundred."""
        self.dropped_count += 1
        if len(self.dropped) < MAX_DROPPED_KEPT:
            self.dropped.append(dropped)

    def line_of(self, ms: float, message: dict[str, Any]) -> Line | None:
        """The line that `message`, which came at `ms`, adds to the conversation, if any.

        The agent's lines are from `tts_started`; of a server that sends none, from its complete replies.
        """
        match message:
            case {"type": "transcription", "is_final": True, "text": text}:
                return Line(ms, "caller", text)
            case {"type": "tts_started", "text": text}:
                return Line(ms, "agent", text)
            case {"type": "llm_response", "is_complete": True, "text": text} if not self.of("tts_started"):
                return Line(ms, "agent", text)
        return None

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The messages of one type, in order (not `audio` and `ping`, which are only counted)."""
        return [each.message for each in self.messages if each.message["type"] == kind]

    def said_by(self, speaker: str) -> str:
        """All that `caller` or `agent` said, according to the server's messages."""
        return " ".join(line.text for line in self.conversation if line.speaker == speaker)

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The conversation as (speaker, text), a speaker's lines in a row joined into one turn."""
        runs = groupby(self.conversation, key=lambda line: line.speaker)
        return [(speaker, " ".join(line.text for line in lines)) for speaker, lines in runs]

    @property
    def first_audio_ms(self) -> float | None:
        """From `configure` to the first audio message, in ms."""
        if not self.talkspurts or self.configure_ms is None:
            return None
        return self.talkspurts[0].start * 1000 - self.configure_ms

    @property
    def reply_latencies_ms(self) -> list[float]:
        """For each speech of the caller, the ms from its end to the first talkspurt that follows.

        Speech that was not answered before the next one is left out.
        """
        latencies = []
        for (_, end), following in zip_longest(self.caller_speech, self.caller_speech[1:]):
            until = following[0] if following else math.inf
            starts = (each.start for each in self.talkspurts if end <= each.start < until)
            if (start := next(starts, None)) is not None:
                latencies.append((start - end) * 1000)
        return latencies

    @property
    def is_answered(self) -> bool:
        """Whether the agent answered the caller: by audio after the speech or text after the transcript."""
        speakers = [line.speaker for line in self.conversation]
        said = speakers.index("caller") if "caller" in speakers else len(speakers)
        return bool(self.reply_latencies_ms) or "agent" in speakers[said:]

    @property
    def audio_s(self) -> float:
        """Length of the agent's audio, in s."""
        return sum(arrival.length for each in self.talkspurts for arrival in each.arrivals)

    def find_failure(self) -> str | None:
        """Why a connected call counts as failed, in one line; None if it went well."""
        if self.closed_by == "server" and not (self.said_all and self.close_code in GRACEFUL_CLOSE):
            why = f" {self.close_reason!r}" if self.close_reason else ""
            return f"the server closed the call after {self.duration_s:.1f} s (code {self.close_code}{why})"
        if self.generation != "bridge" and not self.of("configured"):  # which hears no text
            return "the server sent no `configured`"
        for error in self.of("error"):
            if (error.get("code") or 0) >= SERVER_ERROR:
                return f"the server reported error {error['code']}: {error['message']}"
        return self._find_silence()

    def _find_silence(self) -> str | None:
        if self.frames.due and not self.frames.sent:
            return f"none of the caller's {self.frames.due} frames got through"
        if self.audio_messages and self.misfit_audio == self.audio_messages:
            return "no audio message of the agent was 20 ms long at the rate expected"
        if not self.audio_messages and not self.said_by("agent"):
            return "neither audio nor text came back"
        if self.awaits_reply and self.caller_speech and not self.is_answered:
            return "the agent did not answer what the caller said"
        return None

    def summary(self) -> dict[str, Any]:
        """The figures as JSON values, rounded; the names end in the unit, `_ms` or `_s`."""
        frames, lags = self.frames, self.frames.lags_ms
        configured = self.of("configured")
        return {
            "failure": self.failure,
            "client": self.generation,
            "url": self.url,
            "room_id": self.room_id,
            "call_id": configured[0]["call_id"] if configured else None,
            "duration_s": round(self.duration_s, 3),
            "closed_by": self.closed_by,
            "close_code": self.close_code,
            "hang_up_noticed_s": None if self.noticed_s is None else round(self.noticed_s, 3),
            "pings_unheard": self.pings_unheard,
            "frames_due": frames.due,
            "frames_sent": frames.sent,
            "frames_dropped_before_connect": frames.dropped,
            "lag_mean_ms": _rounded(fmean(lags)) if lags else None,
            "lag_max_ms": _rounded(max(lags)) if lags else None,
            "pings": self.pings,
            "websocket_pings": self.websocket_pings,
            "first_audio_ms": _rounded(self.first_audio_ms),
            "reply_latencies_ms": [_rounded(each) for each in self.reply_latencies_ms],
            "audio_messages": self.audio_messages,
            "audio_s": round(self.audio_s, 3),
            "audio_of_wrong_size": self.misfit_audio,
            "audio_repeated_frame_ids": self.repeated_frame_ids,
            "audio_binary_ignored": self.binary_ignored,
            "pacing": {name: _rounded(v) for name, v in asdict(self.pacing).items()} if self.pacing else None,
            "turns": len(self.turns),
            "errors": self.of("error"),
            "waited_in_vain": [type(step).__name__ for step in self.in_vain],
            "dropped_messages": self.dropped_count,
            "dropped": [asdict(each) for each in self.dropped],
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
