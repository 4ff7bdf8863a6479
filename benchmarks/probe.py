"""Measures inside each server under test: delays of its event loop and of frames, memory, tasks and so on.

The load generator asks over a Unix socket: it sends one word a line and gets a JSON object back.
"""

import asyncio
import ctypes
import gc
import json
import os
import resource
import sys
import threading
import time
from array import array
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from benchmarks.figures import in_ms, missed_ticks, percentile

LAG_EVERY_S = 0.01
BYTES_PER_S = 32_000
PAGE_MB = resource.getpagesize() / 2**20

Heard = Callable[[], Awaitable[float]]
Asgi = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class Probe:
    """Measures the process that it runs in.

    Args:
        path: of the Unix socket that it answers on.
        heard: returns how many seconds of callers' audio have reached the application so far.
    """

    def __init__(self, path: Path, heard: Heard) -> None:
        self._path = path
        self._heard = heard
        self._lags = array("d")
        self._delays = array("d")
        self._due = 0.0
        self._cpu = 0.0
        self._since = 0.0
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to measure and to answer. Does nothing if called again."""
        if self._loop is not None:
            return
        self._loop = asyncio.get_running_loop()
        self._mark()
        self._tick()
        self._server = await asyncio.start_unix_server(self._answer, self._path)

    def frame(self, delay: float) -> None:
        """Note that a caller's frame reached the application `delay` seconds after it was due."""
        self._delays.append(delay)

    def _tick(self) -> None:
        assert self._loop is not None  # noqa: S101  narrows the type; start() has set it
        now = self._loop.time()
        if self._due:
            self._lags.extend(missed_ticks(self._due, now, LAG_EVERY_S))
        self._due = now + LAG_EVERY_S
        self._loop.call_at(self._due, self._tick)

    def _mark(self) -> None:
        self._lags, self._delays = array("d"), array("d")
        self._cpu, self._since = time.process_time(), time.monotonic()

    def _read(self) -> dict[str, Any]:
        seconds = time.monotonic() - self._since
        return {
            "cpu_pct": 100 * (time.process_time() - self._cpu) / seconds if seconds else 0.0,
            "loop_lag_p50_ms": in_ms(percentile(self._lags, 0.5)),
            "loop_lag_p95_ms": in_ms(percentile(self._lags, 0.95)),
            "loop_lag_p99_ms": in_ms(percentile(self._lags, 0.99)),
            "frame_delay_p50_ms": in_ms(percentile(self._delays, 0.5)),
            "frame_delay_p95_ms": in_ms(percentile(self._delays, 0.95)),
            "frame_delay_p99_ms": in_ms(percentile(self._delays, 0.99)),
            "frames_in": len(self._delays),
            **usage(),
        }

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            match line.decode().strip():
                case "rest":  # return free memory to the system, so that it does not count as growth
                    give_back_memory()
                    answer = self._read()
                case "mark":
                    self._mark()
                    answer = {}
                case "read":
                    answer = self._read()
                case "heard":
                    answer = {"seconds": await self._heard()}
                case other:
                    answer = {"error": f"expected rest, mark, read or heard, got {other}"}
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


def usage() -> dict[str, float]:
    """What this process uses now: memory in MB, Python's own blocks of it, tasks of the running loop,
    threads, file descriptors.
    """
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB
    return {
        "rss_mb": resident,
        "blocks": sys.getallocatedblocks(),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
        "fds": len(os.listdir("/proc/self/fd")),
    }


def give_back_memory() -> None:
    """Collect garbage and return the allocator's free memory to the system."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def measured(application: Asgi, probe: Probe) -> Asgi:
    """Wrap an ASGI application: its lifespan starts the probe, and the delay of each frame is measured.

    The client's URL has the time when its first frame began (`origin`, by the machine's monotonic clock).
    """

    async def measure(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await probe.start()
        query = parse_qs(scope.get("query_string", b"").decode())
        if scope["type"] != "websocket" or "origin" not in query:
            await application(scope, receive, send)
            return
        due = float(query["origin"][0])
        is_bridge = query.get("client") == ["bridge"]  # whose audio has the rate of the URL
        bytes_per_s = 2 * int(query["rate"][0]) if is_bridge else BYTES_PER_S

        async def timed() -> Any:
            nonlocal due
            message = await receive()
            if pcm := message.get("bytes"):
                now = time.monotonic()
                for _ in range(message.get("messages", 1)):
                    due += len(pcm) / message.get("messages", 1) / bytes_per_s
                    probe.frame(now - due)
            return message

        await application(scope, timed, send)

    return measure
