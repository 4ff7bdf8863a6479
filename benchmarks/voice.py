"""Measures the time from the caller's last word to the agent's first, with the embedded models."""

import asyncio
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from benchmarks.coldstart import product
from benchmarks.load import PATH
from benchmarks.speech import spoken
from calls.simulator import CallReport, Say, Step, WaitForAgent, run_call

ROUNDS = 3  # of the six questions
QUIET_S = 1.5  # after this much silence the agent has finished
METRICS = ("stt", "llm_ttft", "tts_ttfb", "turn_latency")


def measure() -> dict[str, Any]:
    """Make one call with eighteen questions. Raises RuntimeError if it fails."""
    with product() as (port, _ready_s):
        report = asyncio.run(run_call(list(_steps()), url=f"ws://127.0.0.1:{port}{PATH}", generation="free"))
    if report.failure:
        raise RuntimeError(f"the call failed: {report.failure}")
    return figures(report)


def _steps() -> Iterator[Step]:
    yield WaitForAgent(quiet_s=QUIET_S)
    for question in [*spoken()] * ROUNDS:
        yield Say(question.tobytes())
        yield WaitForAgent(quiet_s=QUIET_S)


def figures(report: CallReport) -> dict[str, Any]:
    """The medians over the call's answers, in ms: the whole wait, and the parts that the server reports."""
    heard = report.reply_latencies_ms
    parts = {key: [m["duration"] for m in report.of("metrics") if m["key"] == key] for key in METRICS}
    return {
        "questions": len(report.caller_speech),
        "answers": len(heard),
        "voice_to_voice_p50_ms": round(median(heard), 1),
        "voice_to_voice_p95_ms": round(_high(heard), 1),
        **{f"{key}_p50_ms": round(median(values), 1) if values else None for key, values in parts.items()},
    }


def _high(values: Sequence[float]) -> float:
    return sorted(values)[round(0.95 * (len(values) - 1))]
