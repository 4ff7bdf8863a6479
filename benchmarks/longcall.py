"""Measures CPU and memory of a call of an hour, ten times as fast as in real time.

Audio comes, and the providers answer, ten times as fast; the limits on a client are raised for it. The
agent's voice is sent in real time, so each reply is interrupted by the caller's next sentence. An hour has
some 460 sentences.
"""

import asyncio
import time
from typing import Any

from benchmarks.client import Caller, Clock
from benchmarks.load import LEAD_S, PATH, Remote
from benchmarks.point import Server, running
from benchmarks.speech import FRAME_S, scripts

STEPS = 10


async def _run(server: Server, minutes: float, speed: int) -> list[dict[str, Any]]:
    clock = Clock()
    probe = await Remote.connect(server.probe)
    origin = clock.origin_after(time.monotonic() + LEAD_S, 0)
    caller = Caller(scripts()[0], 0, origin, "free", "long", speed=speed)
    clock.start(caller)
    await caller.connect(server.port, PATH)
    if caller.errors.refused:
        raise RuntimeError(f"the server refuses calls: {caller.errors.refused}")
    rows = []
    step_s = minutes * 60 / STEPS / speed
    for step in range(STEPS):
        await probe.ask("mark")
        await asyncio.sleep(step_s)
        now = await probe.ask("read")
        rows.append(
            {
                "minute": round((step + 1) * minutes / STEPS, 1),
                "cpu_s_per_minute": round(now["cpu_pct"] / 100 * step_s * STEPS / minutes, 3),
                "rss_mb": round(now["rss_mb"], 1),
                "tasks": now["tasks"],
                "loop_lag_p95_ms": now["loop_lag_p95_ms"],
                "frames_due": caller.due,
                "closed": caller.closed.is_set(),
            }
        )
    clock.stop(caller)
    caller.hang_up()
    async with asyncio.timeout(20):
        await caller.closed.wait()
    for _ in range(20):  # until the call's end is stored
        heard = (await probe.ask("heard"))["seconds"]
        if heard >= caller.due * FRAME_S - FRAME_S / 2:
            break
        await asyncio.sleep(0.2)
    rows[-1]["frames_lost"] = caller.due - round(heard / FRAME_S)
    clock.close()
    await probe.close()
    return rows


def measure(server: str, minutes: float, speed: int) -> dict[str, Any]:
    """Measure `minutes` of one call, `speed` times as fast as in real time, in ten steps."""
    with running("ours", server, str(speed)) as under_test:
        rows = asyncio.run(_run(under_test, minutes, speed))
    return {"server": server, "minutes": minutes, "speed": speed, "steps": rows}
