"""Measures the curve: this server and the usual way in turns, with more and more calls, until each breaks."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import point
from benchmarks.figures import broken, doubts, medians

Point = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How many calls to try on which server, how often and for how long."""

    ours: tuple[int, ...] = (1, 5, 10, 25, 50, 100, 150, 200)
    baseline: tuple[int, ...] = (1, 5, 10, 25, 50)
    rounds: int = 3
    seconds: float = 25.0


def measure(plan: Plan, say: Progress) -> list[Point]:
    """Measure the points of both sides, each the median of its runs."""
    runs: list[Point] = []
    for number in range(plan.rounds):
        runs += _round(plan, number + 1, say)
    return merged(runs)


def merged(runs: Sequence[Point]) -> list[Point]:
    """Merge runs of the same side, server, clients and number of calls; those without figures come last."""
    groups: dict[tuple[Any, ...], list[Point]] = {}
    for run in runs:
        groups.setdefault((run["side"], run["server"], run["clients"], run["calls"]), []).append(run)
    points = []
    for same in groups.values():
        measured = [run for run in same if not run.get("failed")]
        merged_point = medians(measured or same)
        points.append(judged(merged_point))
    return points


def _round(plan: Plan, number: int, say: Progress) -> Iterator[Point]:
    """Run each point once; a side that broke is not measured with more calls."""
    todo = {"ours": list(plan.ours), "baseline": list(plan.baseline)}
    for calls in sorted({*plan.ours, *plan.baseline}):
        for side in ("ours", "baseline"):
            if calls in todo[side]:
                run = one(side, point.SERVERS[side][0], calls, plan.seconds, seed=number)
                say(f"round {number}: {line(run)}")
                if run["broken"]:
                    todo[side] = []
                yield run


def climb(server: str, clients: str, counts: Sequence[int], seconds: float, say: Progress) -> Iterator[Point]:
    """Run each number of calls once on our server, until it breaks."""
    for calls in counts:
        run = one("ours", server, calls, seconds, clients=clients)
        say(line(run))
        yield run
        if run["broken"]:
            return


def one(side: str, server: str, calls: int, seconds: float, **options: Any) -> Point:
    """Run once on a fresh server; if that failed altogether, return a point that says so."""
    try:
        return judged(point.measure(side, server, calls, seconds, **options))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return _failed(side, server, calls, options.get("clients", "free"))


def judged(run: Point) -> Point:
    """Add to a run why the server broke, and why the figures may be wrong."""
    return run | {"broken": broken(run), "doubts": doubts(run)}


def quick(say: Progress) -> list[Point]:
    """Measure a short curve: a few numbers of calls, once each, for eight seconds."""
    points = []
    for side, calls in (("ours", 1), ("baseline", 1), ("ours", 10), ("baseline", 10), ("ours", 25)):
        options = {"ramp_s": 0.05, "settle_s": 2.0, "warm_up_s": 4.0}
        points.append(one(side, point.SERVERS[side][0], calls, 8.0, **options))
        say(line(points[-1]))
    return points


def line(run: Point) -> str:
    """A run as one line of text."""
    name = f"{run['side']}/{run['server']} {run['calls']:>3} {run['clients']} calls"
    if run.get("failed"):
        return f"{name}: the server did not answer"
    return (
        f"{name}: {run['cpu_per_call_pct']:.2f} % and {run['rss_per_call_mb']:.2f} MB a call, loop lag p95 "
        f"{run['loop_lag_p95_ms']} ms, pacing p99 {run['pacing_p99_ms']} ms, turn p95 "
        f"+{run['added_turn_p95_ms']} ms, barge-in {run['bargein_ms']} ms, {run['frames_lost']} frames lost"
        + (f"; BROKEN: {', '.join(run['broken'])}" if run["broken"] else "")
        + (f"; doubtful: {', '.join(run['doubts'])}" if run["doubts"] else "")
    )


def _failed(side: str, server: str, calls: int, clients: str) -> Point:
    return judged({"side": side, "server": server, "calls": calls, "clients": clients, "failed": True})
