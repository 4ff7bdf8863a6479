"""Measures the time from starting a server to the first audio of its first call."""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from benchmarks.client import Caller, Clock
from benchmarks.figures import in_ms
from benchmarks.load import PATH
from benchmarks.point import STOP_S, accepts, environment, running, scratch, started
from benchmarks.speech import scripts
from tests.ports import free_port

FIRST_WORD_S = 30.0


async def _first_call(port: int) -> dict[str, Any]:
    """Make one call; the ms from connecting to `configured` (None: not sent) and to the first audio."""
    clock = Clock()
    caller = Caller(scripts()[0], 0, clock.origin_after(time.monotonic() + 0.01, 0), "free", "first")
    clock.start(caller)
    begin = time.monotonic()
    await caller.connect(port, PATH)
    try:
        async with asyncio.timeout(FIRST_WORD_S):
            await caller.spoken_to.wait()
    finally:
        clock.stop(caller)
        caller.hang_up()
    async with asyncio.timeout(STOP_S):
        await caller.closed.wait()
    clock.close()
    return {
        "configured_ms": in_ms(caller.configured_at - begin) if caller.configured_at else None,
        "first_audio_ms": in_ms(caller.arrivals[0] - begin),
    }


async def _two_calls(port: int) -> dict[str, Any]:
    first = await _first_call(port)
    second = await _first_call(port)
    return {"first_call": first, "second_call": second}


def measure() -> list[dict[str, Any]]:
    """Measure cold starts of both servers with the fixed providers, and of ours with its embedded models."""
    rows = []
    for side, server in (("ours", "daphne"), ("baseline", "uvicorn")):
        with running(side, server) as under_test:
            calls = asyncio.run(_two_calls(under_test.port))
            rows.append(_row(side, "fixed", under_test.started_s, calls))
    with product() as (port, ready_s):
        rows.append(_row("ours", "embedded", ready_s, asyncio.run(_two_calls(port))))
    return rows


def _row(side: str, providers: str, ready_s: float, calls: dict[str, Any]) -> dict[str, Any]:
    return {"side": side, "providers": providers, "ready_s": round(ready_s, 2), **calls}


@contextmanager
def product() -> Iterator[tuple[int, float]]:
    """Run `manage.py serve` on an empty data folder; yield its port and the seconds until it was ready."""
    with scratch() as folder:
        port = free_port()
        own = environment(folder) | {"PORT": str(port), "CARTESIA_API_KEY": "", "OPENAI_API_KEY": ""}
        command = [sys.executable, "manage.py", "serve"]
        with started(command, own, folder, lambda: accepts(port)) as (_process, seconds):
            yield port, seconds
