"""The fixed times of the providers, the definitions of the figures, and their arithmetic. Pure.

Times are seconds on the machine's monotonic clock unless a name says ms.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any

# --- The providers' fixed times, the same for both servers ------------------------------------------------

VAD_STOP_S = 0.2  # after this much silence the VAD says that speech has stopped (Pipecat's default)
VAD_START_S = 0.2  # after this much speech it says that speech has started
STT_FINAL_S = 0.2  # from there to the final words
LLM_FIRST_TOKEN_S = 0.25
TOKEN_S = 0.01  # between tokens; a token is a word
TTS_FIRST_AUDIO_S = 0.1
GREETING = "Hello! How can I help you today?"
REPLY = "Thank you, I have found that for you. It is ready for you at the front desk today."
# The voice gets whole sentences, and a sentence is known to be whole when the next one's first word comes.
LLM_FIRST_SENTENCE_S = LLM_FIRST_TOKEN_S + TOKEN_S * len(REPLY.split(". ", maxsplit=1)[0].split())
FIXED_TURN_S = VAD_STOP_S + STT_FINAL_S + LLM_FIRST_SENTENCE_S + TTS_FIRST_AUDIO_S

# --- When a server no longer carries its calls ------------------------------------------------------------

BROKEN_PACING_P99_MS = 20.0
BROKEN_LAG_P95_MS = 50.0
AHEAD = 6  # messages at the beginning of a reply, of which a client that buffers is sent several at once
PAUSE_S = 0.15  # audio after a longer pause is another reply
UNANSWERED_SHARE = 0.02
PATIENCE_S = 1.0  # a turn without an answer for this long after it is due is unanswered
GENERATOR_LATE_P95_MS = 5.0  # a point where the generator was later than this is marked
SHARED_CORE_PCT = 20.0  # a point where others used more than this of the server's core is marked


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least `share` (0 to 1) of the values do not exceed; None of no values."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def in_ms(seconds: float | None) -> float | None:
    """Seconds as ms, rounded to hundredths."""
    return None if seconds is None else round(seconds * 1000, 2)


def missed_ticks(due: float, now: float, every: float) -> list[float]:
    """How late each tick is that was due between `due` and `now`.

    A stall of 100 ms counts as ten late ticks of 10 ms, not as one: else long stalls would hardly show.
    """
    return [now - due - k * every for k in range(max(0, math.floor((now - due) / every) + 1))]


def broken(point: Mapping[str, Any]) -> list[str]:
    """The reasons why the server did not carry this number of calls; empty if it did."""
    if point.get("failed"):
        return ["the server did not answer"]
    reasons = []
    if (point["pacing_p99_ms"] or 0.0) > BROKEN_PACING_P99_MS:
        reasons.append("pacing")
    if (point["loop_lag_p95_ms"] or 0.0) > BROKEN_LAG_P95_MS:
        reasons.append("loop lag")
    for key, reason in (
        ("frames_lost", "frames lost"),
        ("calls_refused", "calls refused"),
        ("calls_dropped", "calls dropped"),
    ):
        if point[key] > 0:
            reasons.append(reason)
    # At any load, smart turn sometimes takes a finished sentence for an unfinished one.
    if point["turns_unanswered"] > UNANSWERED_SHARE * point["turns"]:
        reasons.append("no answer")
    return reasons


def doubts(point: Mapping[str, Any]) -> list[str]:
    """The reasons why a point's figures may be wrong through something else than the server."""
    late = (point.get("generator_late_p95_ms") or 0.0) > GENERATOR_LATE_P95_MS
    shared = (point.get("core_busy_elsewhere_pct") or 0.0) > SHARED_CORE_PCT
    return [*(["generator late"] if late else []), *(["core shared"] if shared else [])]


def medians(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge several runs of a point: the median of each number, and the first run's other fields.

    If some runs lack a figure, it is the median of the others. Of losses and refusals the worst run counts.
    """
    merged = dict(points[0])
    for key in merged:
        values = [p[key] for p in points if _is_number(p[key])]
        if key in ("frames_lost", "calls_refused", "calls_dropped", "turns_unanswered"):
            merged[key] = max(values)
        elif values and key != "calls":
            middle = median(values)
            merged[key] = round(middle, 3) if isinstance(middle, float) else middle
    merged["runs"] = len(points)
    return merged


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


# --- One call, as its client saw it -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Utterance:
    """When the caller's speech truly began and ended in the audio."""

    onset: float
    end: float


@dataclass
class Outcome:
    """The figures of calls within the window of measurement, in seconds."""

    pacing: list[float] = field(default_factory=list)  # |gap − the audio's length| between two messages
    added_turn: list[float] = field(default_factory=list)  # the turn latency less FIXED_TURN_S
    barge_in: list[float] = field(default_factory=list)
    turns: int = 0
    unanswered: int = 0


def heard_at(arrivals: Sequence[float], length: float) -> list[float]:
    """When each message begins to be heard at a client that plays one after the other, in real time."""
    heard: list[float] = []
    for arrival in arrivals:
        heard.append(max(arrival, heard[-1] + length) if heard else arrival)
    return heard


def judge(
    said: Sequence[Utterance],
    arrivals: Sequence[float],
    length: float,
    window: tuple[float, float],
    *,
    buffers: bool = False,
) -> Outcome:
    """The figures of one call.

    Args:
        said: the caller's utterances in order.
        arrivals: when each message with the agent's voice came, in order.
        length: seconds of audio in each of these messages.
        window: beginning and end of the measurement. Utterances that begin in it count, if it is long enough
            to see their answers.
        buffers: the client is sent voice ahead of its time, and plays it by its own clock. An interruption
            then counts until the last of it is heard, not until it came.
    """
    heard = heard_at(arrivals, length) if buffers else arrivals
    not_paced = AHEAD if buffers else 1
    outcome = Outcome()
    begin, end = window
    for one, after in pairwise(said):
        # Audio that comes before half the fixed times have passed, or without a pause before it, is the rest
        # of an interrupted reply.
        first = bisect_left(arrivals, one.end + FIXED_TURN_S / 2)
        until = bisect_right(arrivals, after.onset)
        while 0 < first < until and arrivals[first] - arrivals[first - 1] < PAUSE_S:
            first += 1
        if begin <= one.end and one.end + FIXED_TURN_S + PATIENCE_S <= end:
            outcome.turns += 1
            if first >= until:
                outcome.unanswered += 1
            else:
                outcome.added_turn.append(arrivals[first] - one.end - FIXED_TURN_S)
        # A reply is one stretch of audio, in which every gap counts, however long; except the first, as
        # Pipecat's transport sends the first two messages together, at any load.
        reply = arrivals[first:until]
        gaps = [(a, b) for a, b in pairwise(reply[not_paced:]) if begin <= a and b <= end]
        outcome.pacing += [abs(b - a - length) for a, b in gaps]
        speaking = first < until and after.onset - reply[-1] < PAUSE_S
        if speaking and begin <= after.onset and after.onset + PATIENCE_S <= end:
            last = heard[bisect_right(arrivals, after.end + FIXED_TURN_S / 2) - 1]
            outcome.barge_in.append(max(0.0, last - after.onset - VAD_START_S))
    return outcome
