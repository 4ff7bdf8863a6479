"""The server itself: killed, stopped, its clock set, an exception in its pages."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import psycopg

from benchmarks.faults.fault import NotHere, fault
from benchmarks.faults.stand import PASSWORD, Stand

EXIT_S = 60.0
CLOCK = Path(__file__).with_name("clock.c")
PAGES_AT_ONCE = 4


@fault("kill −9, started again at once", lasts_s=0, keepable=False, kills=True, patience_s=65)
async def kill(stand: Stand) -> AsyncIterator[None]:
    """No chance to store anything; the calls' ends are stored by the next process, as a crash."""
    stand.server.process.kill()
    async with asyncio.timeout(10):
        for caller in stand.crowd.talking():
            await caller.closed.wait()
    yield
    await asyncio.to_thread(stand.server.start)


@fault("SIGTERM under load, started again when it has ended", lasts_s=15)
async def sigterm(stand: Stand) -> AsyncIterator[None]:
    """Callers hang up by themselves within 12 s; those cut off or refused call again after a second."""
    begin = asyncio.get_running_loop().time()
    stand.server.process.send_signal(signal.SIGTERM)
    staying = stand.crowd.talking()

    async def leave() -> None:
        for caller in staying:
            await asyncio.sleep(12 / len(staying))
            if caller.talks:
                stand.crowd.hang_up([caller])

    async def supervise() -> None:
        status = await asyncio.to_thread(stand.server.process.wait, EXIT_S)
        seconds = asyncio.get_running_loop().time() - begin
        stand.notes.append(f"exit status {status} after {seconds:.1f} s")
        await asyncio.to_thread(stand.server.start)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(leave())
        tasks.create_task(supervise())
        yield


@asynccontextmanager
async def _own_clock(stand: Stand) -> AsyncIterator[Mapping[str, str]]:
    """The server's wall clock is off by what is in a file; its monotonic clock is the real one."""
    library = stand.folder / "clock.so"
    command = ["cc", "-shared", "-fPIC", "-O2", "-o", str(library), str(CLOCK), "-ldl"]
    try:
        await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise NotHere(f"the clock needs a C compiler, cc: {error}") from error
    _set_clock(stand, 0)
    yield {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(stand.folder / "clock")}


def _set_clock(stand: Stand, seconds: int) -> None:
    """Let the server's wall clock be so many seconds ahead (or, negative, behind)."""
    with (stand.folder / "clock").open("r+b" if (stand.folder / "clock").exists() else "w+b") as file:
        file.write(seconds.to_bytes(8, sys.byteorder, signed=True))


@fault("the wall clock is set back by an hour, then forward again", lasts_s=12, prepare=_own_clock)
async def clock_step(stand: Stand) -> AsyncIterator[None]:
    """Of the server alone; what it says of the time is looked at."""
    _set_clock(stand, -3600)
    await asyncio.sleep(1)
    behind = min(caller.server_clock for caller in stand.crowd.talking())
    stand.notes.append(f"its clock went by {behind:.0f} s")
    yield
    _set_clock(stand, 0)


@fault("an exception in a page, 4 readers at once", lasts_s=10, sign="Internal Server Error")
async def page_exception(stand: Stand) -> AsyncIterator[None]:
    """The table of the users is away, which every page needs and no call."""
    with psycopg.connect(stand.postgres.url, autocommit=True) as connection:
        async with httpx.AsyncClient(base_url=stand.server.page) as reader:
            await _log_in(reader)
            connection.execute("ALTER TABLE auth_user RENAME TO auth_user_away")
            statuses: list[int] = []
            reading = [asyncio.create_task(_read(reader, statuses)) for _ in range(PAGES_AT_ONCE)]
            yield
            for task in reading:
                task.cancel()
            connection.execute("ALTER TABLE auth_user_away RENAME TO auth_user")
            after = (await reader.get("/calls/")).status_code
            stand.notes.append(f"{statuses.count(500)} of {len(statuses)} pages 500, afterwards {after}")


async def _log_in(reader: httpx.AsyncClient) -> None:
    await reader.get("/login/")
    form = {
        "username": "admin",
        "password": PASSWORD,
        "csrfmiddlewaretoken": reader.cookies["csrftoken"],
    }
    response = await reader.post("/login/", data=form)
    if response.status_code != 302:
        raise RuntimeError(f"the log-in failed: expected 302, got {response.status_code}")


async def _read(reader: httpx.AsyncClient, statuses: list[int]) -> None:
    while True:
        statuses.append((await reader.get("/calls/")).status_code)
        await asyncio.sleep(0.1)
