"""The server itself: killed, stopped, its clock set, an exception in its pages."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from glob import glob

import httpx
import psycopg

from benchmarks.faults.fault import NotHere, fault
from benchmarks.faults.stand import PASSWORD, Stand

EXIT_S = 60.0
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"
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
    """The server reads its wall clock through libfaketime; the monotonic clock stays real."""
    found = glob(FAKETIME)
    if not found:
        raise NotHere("libfaketime is missing: apt-get install faketime")
    offset = stand.folder / "offset"
    offset.write_text("+0s")
    yield {
        "LD_PRELOAD": found[0],
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }


@fault("the wall clock is set back by an hour, then forward again", lasts_s=12, prepare=_own_clock)
async def clock_step(stand: Stand) -> AsyncIterator[None]:
    """Of the server alone, by libfaketime."""
    offset = stand.folder / "offset"
    offset.write_text("-3600s")
    yield
    offset.write_text("+0s")


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
