"""The load generator: makes many calls at once to one server, and reports the figures.

`python -m benchmarks.load` reads a Load as JSON from standard input and prints one JSON object. It runs in a
process of its own, on a core of its own, and also reports how late its own timers were.
"""

import asyncio
import gc
import json
import os
import random
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.client import BRIDGE_FRAME_S, BRIDGE_RATE, PING_S, Caller, Clock
from benchmarks.figures import Outcome, in_ms, judge, percentile
from benchmarks.speech import FRAME_S, Script, scripts

PATH = "/ws/rustpbx"
LEAD_S = 0.5  # from the start of connecting to the first frame
UNWIND_S = 1.0  # in which the server closes the warm-up calls
DRAIN_S = 0.5  # in which clients that wait for their lock may send their queued frames
GENERATIONS = {
    "free": ("free",),
    "seed": ("seed",),
    "new": ("new",),
    "mixed": ("seed", "new", "free"),
    "bridge": ("bridge",),
}
RESAMPLER_S = 0.07  # of a bridge's audio, at most, which the resampler has not let go at the end of a call
PROBE_S = 30.0


@dataclass(frozen=True)
class Load:
    """The load: `calls` at once, started `ramp_s` apart, and measured for `seconds`.

    Two calls of `warm_up_s` come first. The measurement begins `settle_s` after the last call has started.
    """

    port: int
    probe: str
    calls: int
    seconds: float
    clients: str = "free"
    ramp_s: float = 0.15
    warm_up_s: float = 6.0
    settle_s: float = 4.0
    seed: int = 1


class Remote:
    """A client of the server's probe, over its Unix socket."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def connect(cls, path: str | Path) -> "Remote":
        """Connect. Raises OSError when nobody answers."""
        return cls(*await asyncio.open_unix_connection(path))

    async def ask(self, word: str) -> dict[str, Any]:
        """Send `word` and return the answer. Raises TimeoutError."""
        self._writer.write(f"{word}\n".encode())
        async with asyncio.timeout(PROBE_S):
            answer: dict[str, Any] = json.loads(await self._reader.readline())
        return answer

    async def close(self) -> None:
        """Close the connection."""
        self._writer.close()
        await self._writer.wait_closed()


async def run(load: Load) -> dict[str, Any]:
    """Warm the server up, make the calls and measure."""
    is_bridge = load.clients == "bridge"
    script_pool = scripts(BRIDGE_RATE, BRIDGE_FRAME_S) if is_bridge else scripts()
    dice = random.Random(load.seed)  # noqa: S311  not a secret
    probe = await Remote.connect(load.probe)
    clock = Clock()
    heard_before = await _warm_up(load, clock, scripts()[0], probe)
    await asyncio.sleep(UNWIND_S)
    before = await probe.ask("rest")
    # Existing objects are needed to the end: collecting them would only make the generator late.
    gc.collect()
    gc.freeze()
    gc.disable()
    callers = await _ramp(load, clock, script_pool, dice)
    await asyncio.sleep(load.settle_s)
    clock.late = type(clock.late)("d")
    await probe.ask("mark")
    begin = time.monotonic()
    await asyncio.sleep(load.seconds)
    after = await probe.ask("read")
    window = (begin, time.monotonic())
    generator = clock.report()
    await _hang_up(clock, callers)
    due_s = sum(c.due * c.script.frame_s for c in callers)
    heard = await _settled(probe, heard_before + due_s)
    held_s = RESAMPLER_S * load.calls if is_bridge else 0.0
    lost = max(0, round((due_s - (heard - heard_before) - held_s) / FRAME_S))
    clock.close()
    await probe.close()
    return {
        "calls": load.calls,
        "clients": load.clients,
        **_of_server(load, before, after),
        **_of_callers(callers, window),
        "frames_lost": lost,
        **generator,
    }


def _of_server(load: Load, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        "cpu_pct": round(after["cpu_pct"], 2),
        "cpu_per_call_pct": round(after["cpu_pct"] / load.calls, 3),
        "rss_per_call_mb": round((after["rss_mb"] - before["rss_mb"]) / load.calls, 3),
        "rss_idle_mb": round(before["rss_mb"], 1),
        "tasks_per_call": round((after["tasks"] - before["tasks"]) / load.calls, 1),
        **{key: value for key, value in after.items() if key.endswith("_ms")},
    }


def _of_callers(callers: list[Caller], window: tuple[float, float]) -> dict[str, Any]:
    total = Outcome()
    for caller in callers:
        said = caller.script.said_from(caller.entry, caller.origin, window[1] + 60)
        one = judge(said, caller.arrivals, caller.audio_seconds, window, buffers=caller.is_bridge)
        total.pacing += one.pacing
        total.added_turn += one.added_turn
        total.barge_in += one.barge_in
        total.turns += one.turns
        total.unanswered += one.unanswered
    codes = [code for caller in callers for code in caller.codes]
    return {
        "pacing_p50_ms": in_ms(percentile(total.pacing, 0.5)),
        "pacing_p99_ms": in_ms(percentile(total.pacing, 0.99)),
        "added_turn_p50_ms": in_ms(percentile(total.added_turn, 0.5)),
        "added_turn_p95_ms": in_ms(percentile(total.added_turn, 0.95)),
        "bargein_ms": in_ms(percentile(total.barge_in, 0.5)),
        "bargein_p95_ms": in_ms(percentile(total.barge_in, 0.95)),
        "turns": total.turns,
        "turns_unanswered": total.unanswered,
        "bargeins": len(total.barge_in),
        "calls_refused": sum(bool(c.errors.refused) for c in callers),
        "calls_dropped": sum(bool(c.errors.dropped) for c in callers),
        "errors": sorted(set(codes))[:5],
    }


async def _warm_up(load: Load, clock: Clock, script: Script, probe: Remote) -> float:
    """Make two calls, one after the other, and return the seconds of audio that the server counted of them.

    Memory that is allocated once must not count as a call's, and some memory of the first call is freed only
    during the second.
    """
    due = 0
    for number in range(2):
        caller = Caller(script, 0, clock.origin_after(time.monotonic() + LEAD_S, 0), "free", f"warm-{number}")
        clock.start(caller)
        await caller.connect(load.port, PATH)
        if caller.errors.refused:
            raise SystemExit(f"the server refuses calls: {caller.errors.refused}")
        await asyncio.sleep(load.warm_up_s)
        await _hang_up(clock, [caller])
        due += caller.due
    return await _settled(probe, due * FRAME_S)


async def _ramp(load: Load, clock: Clock, script_pool: list[Script], dice: random.Random) -> list[Caller]:
    kinds = GENERATIONS[load.clients]
    callers, connecting = [], []
    begin = time.monotonic()
    for number in range(load.calls):
        await asyncio.sleep(begin + number * load.ramp_s - time.monotonic())
        script = script_pool[number % len(script_pool)]
        origin = clock.origin_after(time.monotonic() + LEAD_S, dice.randrange(10))
        entry = script.entry(dice)
        if number == 0:  # so that even a single short call has an answer and an interruption
            entry = script.entry_before(1, load.settle_s + load.calls * load.ramp_s + 0.5)
        caller = Caller(script, entry, origin, kinds[number % len(kinds)], f"room-{number}")
        clock.start(caller)
        callers.append(caller)
        connecting.append(asyncio.create_task(caller.connect(load.port, PATH)))
        _ping_later(caller)
    await asyncio.gather(*connecting)
    return callers


def _ping_later(caller: Caller) -> None:
    def ping() -> None:
        if not caller.closed.is_set():
            caller.ping()
            _ping_later(caller)

    asyncio.get_running_loop().call_later(PING_S, ping)


async def _hang_up(clock: Clock, callers: list[Caller]) -> None:
    """Send the last frames and `disconnect`, and wait for the end of the calls, within bounds."""
    for caller in callers:
        clock.stop(caller)
    await asyncio.sleep(DRAIN_S)
    for caller in callers:
        caller.hang_up()
    waiting = [asyncio.create_task(c.closed.wait()) for c in callers if not c.errors.refused]
    if waiting:
        await asyncio.wait(waiting, timeout=15)
    for caller, wait in zip([c for c in callers if not c.errors.refused], waiting, strict=True):
        if not wait.done():
            caller.abort()
            wait.cancel()


async def _settled(probe: Remote, expected: float | None = None) -> float:
    """The seconds of audio that the server counted, once as expected or unchanged for 2 s, or after 20 s."""
    last, unchanged = -1.0, 0
    for _ in range(40):
        now = float((await probe.ask("heard"))["seconds"])
        unchanged = unchanged + 1 if now == last else 0
        last = now
        if unchanged >= 4 or (expected is not None and now >= expected - FRAME_S / 2):
            break
        await asyncio.sleep(0.5)
    return last


def main() -> None:
    """Run the load given on standard input, with priority over other processes if that is permitted."""
    with suppress(PermissionError):
        os.nice(-10)
    print(json.dumps(asyncio.run(run(Load(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
