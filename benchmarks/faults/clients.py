"""Clients that misbehave beside those that do not."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator

from benchmarks.client import CONFIGURE
from benchmarks.faults.callers import Witness
from benchmarks.faults.fault import fault
from benchmarks.faults.stand import Stand
from benchmarks.load import PATH
from benchmarks.websocket import BINARY, command, frame, handshake

CLIENTS = 3
ENDED_WITHIN_S = 60.0


async def _apart(stand: Stand) -> list[Witness]:
    """Calls that are about to misbehave, each with its greeting begun."""
    callers = [await stand.crowd.place_apart() for _ in range(CLIENTS)]
    async with asyncio.timeout(10):
        for caller in callers:
            await caller.spoken_to.wait()
    return callers


@fault("3 clients that never read", lasts_s=12, patience_s=ENDED_WITHIN_S)
async def never_reads(stand: Stand) -> AsyncIterator[None]:
    """They go on to send audio."""
    for caller in await _apart(stand):
        caller.stop_reading()
    yield


@fault("3 clients whose line is cut (half-open TCP)", lasts_s=5, patience_s=ENDED_WITHIN_S)
async def half_open(stand: Stand) -> AsyncIterator[None]:
    """Nothing comes from them any more, and nothing that is sent to them is acknowledged."""
    for caller in await _apart(stand):
        stand.crowd.leave(caller)
        caller.cut_the_line()
    yield


@fault("3 clients that flood, 200 sockets that open and close", lasts_s=10)
async def flood(stand: Stand) -> AsyncIterator[None]:
    """Audio and pings as fast as the server takes them; who is closed opens another socket."""
    until = time.monotonic() + 10
    pieces = [frame(BINARY, b"\0\0"), frame(BINARY, bytes(320)), command(command="ping", timestamp=1)]
    threads = [threading.Thread(target=_pour, args=(stand.server.port, piece, until)) for piece in pieces]
    threads.append(threading.Thread(target=_knock, args=(stand.server.port, 200, until)))
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        await asyncio.to_thread(thread.join)


def _pour(port: int, piece: bytes, until: float) -> None:
    """Configure, then send one message again and again."""
    while time.monotonic() < until:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                line.sendall(handshake(port, PATH))
                line.recv(4096)
                line.sendall(command(command="configure", room_id="flood", **CONFIGURE))
                while time.monotonic() < until:
                    line.sendall(piece * 500)
        except OSError:
            time.sleep(0.2)


def _knock(port: int, times: int, until: float) -> None:
    """Open sockets one after the other; every second is closed in the middle of its handshake."""
    for number in range(times):
        if time.monotonic() > until:
            return
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as line:
                asked = handshake(port, PATH)
                line.sendall(asked if number % 2 else asked[:40])
                if number % 2:
                    line.recv(1024)
        except OSError:
            time.sleep(0.05)
