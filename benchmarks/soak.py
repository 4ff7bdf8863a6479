"""Measures whether memory, descriptors, tasks and threads grow during an hour of calls that come and go.

A fifth of the calls last from beginning to end, the others 30 to 90 seconds. Every half minute a sample is
taken from outside (/proc), and of the tasks from the server's probe. The growth of a figure is the slope of a
line through the samples, without those before the server has settled, times their duration.
"""

import asyncio
import os
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, linear_regression
from typing import Any

from benchmarks.client import Caller, Clock
from benchmarks.load import LEAD_S, PATH, Remote
from benchmarks.point import Server, cores, running
from benchmarks.speech import scripts

EVERY_S = 30.0
SETTLED = 0.2  # of the samples come before it has settled
STAYING = 5  # one call of so many lasts to the end
SHORT_S = (30.0, 90.0)
BETWEEN_S = (1.0, 3.0)
LEAST_S = 5.0  # no call begins this late: it would be over before it is answered
LONGEST_S = 3_500.0  # a profile ends calls after an hour, which must not count as dropped calls
KINDS = ("free", "new", "seed")
# The permitted growth: MB, or numbers; of tasks a share, as calls come and go.
LIMITS = {"rss_mb": 20.0, "uss_mb": 20.0, "fds": 4.0, "threads": 2.0}
TASKS_SHARE = 0.05

Say = Callable[[str], None]
Sample = dict[str, float]


@dataclass
class Calls:
    """The outcomes of the calls."""

    made: int = 0
    refused: int = 0
    dropped: int = 0
    unanswered: int = 0
    errors: Counter[str] = field(default_factory=Counter)

    def note(self, caller: Caller, lasted_s: float) -> None:
        """Count a call that is over."""
        self.made += 1
        self.refused += bool(caller.errors.refused)
        self.dropped += bool(caller.errors.dropped) and lasted_s < LONGEST_S
        self.unanswered += not caller.errors.refused and not caller.arrivals
        self.errors.update(caller.codes)
        if caller.errors.refused or caller.errors.dropped:
            self.errors[caller.errors.refused or caller.errors.dropped] += 1


def sample(pid: int) -> Sample:
    """What a process uses, from /proc: resident and unshared memory (MB), descriptors, threads."""
    folder = Path(f"/proc/{pid}")
    kb = dict(re.findall(r"^(\w+):\s+(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE))
    return {
        "rss_mb": int(kb["Rss"]) / 1024,
        "uss_mb": (int(kb["Private_Clean"]) + int(kb["Private_Dirty"])) / 1024,
        "fds": len(os.listdir(folder / "fd")),
        "threads": len(os.listdir(folder / "task")),
    }


def judge(samples: Sequence[Sample]) -> dict[str, Any]:
    """The first value, mean, last value and growth of each figure, without samples before it has settled."""
    settled = samples[int(len(samples) * SETTLED) :]
    minutes = [each["minute"] for each in settled]
    judged = {}
    for name in ("rss_mb", "uss_mb", "fds", "threads", "tasks"):
        values = [each[name] for each in settled]
        slope = linear_regression(minutes, values).slope if len(settled) > 1 else 0.0
        gained = slope * (minutes[-1] - minutes[0])
        limit = LIMITS.get(name, TASKS_SHARE * fmean(values))
        judged[name] = {
            "first": round(values[0], 1), "mean": round(fmean(values), 1), "last": round(values[-1], 1),
            "highest": round(max(values), 1), "gained": round(gained, 2), "limit": round(limit, 1),
            "flat": gained <= limit,
        }  # fmt: skip
    return judged


class Soak:
    """Calls that come and go at one server.

    Args:
        calls: at once.
        until: no call goes on after this time (monotonic).
    """

    def __init__(self, port: int, calls: int, until: float) -> None:
        self.over = Calls()
        self._port, self._calls, self._until = port, calls, until
        self._clock = Clock()
        self._scripts = scripts()
        self._dice = random.Random(1)  # noqa: S311  not a secret
        self._number = 0

    async def run(self) -> None:
        """Make calls until the end."""
        async with asyncio.TaskGroup() as lines:
            for number in range(self._calls):
                lines.create_task(self._line(staying=number % STAYING == 0))
                await asyncio.sleep(0.2)
        self._clock.close()

    async def _line(self, *, staying: bool) -> None:
        while (left := self._until - time.monotonic()) > LEAST_S:
            await self._call(left if staying else min(left, self._dice.uniform(*SHORT_S)))
            await asyncio.sleep(self._dice.uniform(*BETWEEN_S))

    async def _call(self, seconds: float) -> None:
        script = self._scripts[self._number % len(self._scripts)]
        origin = self._clock.origin_after(time.monotonic() + LEAD_S, self._dice.randrange(10))
        kind = KINDS[self._number % len(KINDS)]
        caller = Caller(script, script.entry(self._dice), origin, kind, f"soak-{self._number}")
        self._number += 1
        begin = time.monotonic()
        self._clock.start(caller)
        await caller.connect(self._port, PATH)
        if not caller.errors.refused:
            with suppress(TimeoutError):
                await asyncio.wait_for(caller.closed.wait(), seconds)
        self._clock.stop(caller)
        if not caller.closed.is_set() and not caller.errors.refused:
            caller.hang_up()
            with suppress(TimeoutError):
                await asyncio.wait_for(caller.closed.wait(), 10)
        caller.abort()
        self.over.note(caller, time.monotonic() - begin)


async def _measure(server: Server, minutes: float, calls: int, every_s: float, say: Say) -> dict[str, Any]:
    probe = await Remote.connect(server.probe)
    begin = time.monotonic()
    soak = Soak(server.port, calls, begin + minutes * 60)
    calling = asyncio.create_task(soak.run())
    samples: list[Sample] = []
    await probe.ask("mark")
    while not calling.done() and (len(samples) + 1) * every_s <= minutes * 60:
        await asyncio.wait([calling], timeout=begin + (len(samples) + 1) * every_s - time.monotonic())
        inside = await probe.ask("read")
        await probe.ask("mark")  # the probe's own figures would grow
        minute = (time.monotonic() - begin) / 60
        now = {"minute": minute, **sample(server.process.pid), "tasks": inside["tasks"]}
        samples.append({**now, "cpu_pct": inside["cpu_pct"], "loop_lag_p95_ms": inside["loop_lag_p95_ms"]})
        say("  ".join(f"{name} {value:.1f}" for name, value in samples[-1].items()))
    await calling
    await probe.close()
    over = soak.over
    return {
        "minutes": minutes,
        "at_once": calls,
        "calls": {**vars(over), "errors": dict(over.errors.most_common(5))},
        "judged": judge(samples),
        "samples": [{name: round(value, 2) for name, value in each.items()} for each in samples],
    }


def measure(
    minutes: float, calls: int, say: Say, *, services: bool = True, every_s: float = EVERY_S
) -> dict[str, Any]:
    """Measure `calls` at once for `minutes`, on real PostgreSQL and Redis or on SQLite alone."""
    with ExitStack() as stack:
        own = _services(stack) if services else {}
        under_test = stack.enter_context(running("ours", "daphne", own=own))
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cores()[1]})
        stack.callback(os.sched_setaffinity, 0, before)
        return asyncio.run(_measure(under_test, minutes, calls, every_s, say))


def _services(stack: ExitStack) -> Mapping[str, str]:
    from tests.services import private_cluster, private_redis  # of the suite: needs what that needs

    postgres, redis = stack.enter_context(private_cluster()), stack.enter_context(private_redis())
    return {"DATABASE_URL": postgres.url, "REDIS_URL": redis.url}


def table(figures: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    names = {"rss_mb": "resident memory, MB", "uss_mb": "of it unshared, MB", "fds": "descriptors",
             "threads": "threads", "tasks": "tasks"}  # fmt: skip
    calls = figures["calls"]
    lines = [
        f"{figures['at_once']} calls at once for {figures['minutes']:g} minutes, {calls['made']} in all: "
        f"{calls['refused']} refused, {calls['dropped']} dropped, {calls['unanswered']} unanswered.",
        "",
        "|  | once settled | mean | highest | end | gained by slope | flat |",
        "|---|---|---|---|---|---|---|",
    ]
    if calls["errors"]:
        told = "; ".join(f"{count} × {text}" for text, count in calls["errors"].items())
        lines[0] += f" Errors told: {told}."
    for name, title in names.items():
        row = figures["judged"][name]
        flat = "yes" if row["flat"] else f"no, the limit is {row['limit']}"
        cells = (row["first"], row["mean"], row["highest"], row["last"], f"{row['gained']:+.1f}", flat)
        lines.append(f"| {title} | " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def passed(figures: Mapping[str, Any]) -> bool:
    """Whether nothing grew, and no call was refused, dropped or left unanswered."""
    calls = figures["calls"]
    lost = calls["refused"] + calls["dropped"] + calls["unanswered"]
    return not lost and all(row["flat"] for row in figures["judged"].values())
