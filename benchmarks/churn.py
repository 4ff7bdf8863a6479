"""Measures what many short calls leave behind in the server, one after the other and many at a time.

Each call connects, configures, streams until the greeting's first audio comes, says `disconnect` and closes.
It is over when the server has closed the socket.
"""

import asyncio
import time
from itertools import chain
from typing import Any

from benchmarks.client import Caller, Clock
from benchmarks.figures import in_ms, percentile
from benchmarks.load import PATH, Remote
from benchmarks.point import Server, running
from benchmarks.speech import Script, scripts

WARM_UP_CALLS = 100
CALL_S = 6.0  # the longest a call may last; the caller is silent all the time
SETTLE_S = 4.0  # in which the server stores and closes the last call
KEPT = ("rss_mb", "blocks", "tasks", "threads", "fds")


async def _call(clock: Clock, port: int, script: Script, number: int) -> float | None:
    """Make one short call; return the seconds from connecting to the first audio, or None if it failed."""
    origin = clock.origin_after(time.monotonic() + 0.01, number % 10)
    caller = Caller(script, script.entry_before(1, CALL_S), origin, "free", f"churn-{number}")
    clock.start(caller)
    begin = time.monotonic()
    await caller.connect(port, PATH)
    if caller.errors.refused:
        clock.stop(caller)
        return None
    try:
        async with asyncio.timeout(CALL_S):
            await caller.spoken_to.wait()
            clock.stop(caller)
            caller.hang_up()
            await caller.closed.wait()
    except TimeoutError:
        caller.abort()
        return None
    return caller.arrivals[0] - begin if caller.arrivals else None


async def _many(clock: Clock, port: int, script: Script, calls: int, at_once: int) -> list[float | None]:
    numbers = iter(range(calls))

    async def line() -> list[float | None]:
        return [await _call(clock, port, script, number) for number in numbers]

    return list(chain.from_iterable(await asyncio.gather(*(line() for _ in range(at_once)))))


async def _phase(server: Server, clock: Clock, calls: int, at_once: int) -> dict[str, Any]:
    probe = await Remote.connect(server.probe)
    before = await probe.ask("rest")
    begin = time.monotonic()
    first_audio = await _many(clock, server.port, scripts()[0], calls, at_once)
    seconds = time.monotonic() - begin
    await asyncio.sleep(SETTLE_S)
    after = await probe.ask("rest")
    await probe.close()
    answered = [each for each in first_audio if each is not None]
    return {
        "calls": calls,
        "at_once": at_once,
        "failed": calls - len(answered),
        "seconds": round(seconds, 1),
        "first_audio_p50_ms": in_ms(percentile(answered, 0.5)),
        "first_audio_p95_ms": in_ms(percentile(answered, 0.95)),
        "before": {key: round(before[key], 2) for key in KEPT},
        "after": {key: round(after[key], 2) for key in KEPT},
        "growth_mb_per_1000": round((after["rss_mb"] - before["rss_mb"]) * 1000 / calls, 2),
    }


def measure(side: str, server: str, calls: int) -> dict[str, Any]:
    """Measure what `calls` leave behind, after a hundred calls that warm the server up.

    They are made in three phases: one after the other, fifty at a time, and fifty at a time again. What is
    allocated once only shows in the second phase and not in the third.
    """

    async def run(under_test: Server) -> list[dict[str, Any]]:
        clock = Clock()
        await _many(clock, under_test.port, scripts()[0], WARM_UP_CALLS, 10)
        await asyncio.sleep(SETTLE_S)
        phases = [await _phase(under_test, clock, calls, at_once) for at_once in (1, 50, 50)]
        clock.close()
        return phases

    with running(side, server) as under_test:
        return {"side": side, "server": server, "phases": asyncio.run(run(under_test))}
