"""One fault measured: callers talk, something fails and is put right, and what was told is looked for."""

import asyncio
import re
import sqlite3
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import psycopg

from benchmarks.faults.callers import Crowd, Witness
from benchmarks.faults.fault import Fault, NotHere
from benchmarks.faults.records import FOREVER, all_lost, records
from benchmarks.faults.row import Row, shown
from benchmarks.faults.stand import Stand, stand

CALLS = 8
LEAVING = 3  # one caller of so many hangs up while it fails
NEW_CALLS = 3  # made while it fails
HEARD_WITHIN_S = 10.0  # a new call hears the agent, or was not answered
ANSWERED_WITHIN_S = 40.0
ASKS_IN_S = 4.0  # a call made afterwards: its greeting is over by then
HEARD_AGAIN_S = 25.0  # a call that is kept hears the agent again
LOOK_S = 0.25
SHOWN = 6

Say = Callable[[str], None]


async def _misses(at: Stand, callers: Sequence[Witness], by: float, killed: bool) -> list[str] | None:
    """What is not stored of these calls now; None while the database does not answer."""
    try:
        stored = await asyncio.to_thread(at.stored)
    except (psycopg.Error, sqlite3.Error, OSError):
        return None
    return all_lost(callers, stored, by=by, killed=killed)


async def _stored(
    at: Stand, fault: Fault, callers: Sequence[Witness], since: float, by: float = FOREVER
) -> tuple[float | None, list[str]]:
    """Wait until all that was told `by` then is stored: the seconds `since`, or None; and what is missing."""
    while True:
        misses = await _misses(at, callers, by, fault.kills)
        passed = time.monotonic() - since
        if misses == []:
            return passed, []
        if passed > fault.patience_s:
            return None, misses if misses is not None else ["the database does not answer"]
        await asyncio.sleep(LOOK_S)


async def _meanwhile(crowd: Crowd, seconds: float) -> list[Witness]:
    """Let `seconds` pass: some of the callers hang up, and a few others call. Those others."""
    begin = time.monotonic()
    leaving = crowd.talking()[::LEAVING]
    placing: list[asyncio.Task[Witness]] = []
    for number in range(NEW_CALLS):
        await asyncio.sleep(begin + seconds * (number + 1) / (NEW_CALLS + 1) - time.monotonic())
        placing.append(asyncio.create_task(crowd.place_apart()))
        crowd.hang_up([each for each in leaving[number::NEW_CALLS] if each.talks])
    await asyncio.sleep(begin + seconds - time.monotonic())
    return list(await asyncio.gather(*placing))


async def _answered(callers: Sequence[Witness]) -> int:
    """How many of these calls heard the agent soon enough."""
    last = max((each.placed + HEARD_WITHIN_S for each in callers), default=0.0)
    for caller in callers:
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, last - time.monotonic())):
                await caller.spoken_to.wait()
    return sum(bool(each.arrivals) and each.arrivals[0] - each.placed <= HEARD_WITHIN_S for each in callers)


async def _kept(callers: Sequence[Witness], after: float) -> int:
    """How many of these calls were not cut off, and hear the agent again (unless they hung up)."""
    deadline = time.monotonic() + HEARD_AGAIN_S

    def goes_on(caller: Witness) -> bool:
        return caller.hanging_up or bool(caller.arrivals and caller.arrivals[-1] > after)

    open_calls = [each for each in callers if each.hanging_up or not each.closed.is_set()]
    while time.monotonic() < deadline and not all(map(goes_on, open_calls)):  # noqa: ASYNC110  many callers' doing
        await asyncio.sleep(0.1)
    return sum(goes_on(each) and not each.errors.dropped for each in open_calls)


async def _measure(at: Stand, fault: Fault, calls: int) -> Row:
    """Measure a fault on the server that runs."""
    crowd = at.crowd = Crowd(at.server.port, f"{fault.name}-{time.time_ns()}")
    at.notes = []
    row = Row(fault.name, fault.title, fault.keepable)
    logged = len(at.server.output)
    try:
        in_progress = await crowd.arrive(calls)
        async with fault.happen(at):
            new = await _meanwhile(crowd, fault.lasts_s)
            gone = time.monotonic()
        placing = asyncio.create_task(
            crowd.place_apart(asks_in_s=ASKS_IN_S)
        )  # calls as soon as it is right again
        row.calls, row.new = len(in_progress), len(new)
        row.answers_s, (row.stored_s, _), row.kept = await asyncio.gather(
            crowd.answered_after(gone, ANSWERED_WITHIN_S),
            _stored(at, fault, crowd.everyone, since=gone, by=gone),
            _kept(in_progress, gone),
        )
        row.answered = await _answered(new)
        await placing
    finally:
        await crowd.go_home()
    _, misses = await _stored(at, fault, crowd.everyone, since=time.monotonic())
    row.records, row.lost = sum(map(records, crowd.everyone)), len(misses)
    row.lost_records = misses[:SHOWN]
    log = at.server.output[logged:]
    row.tracebacks = sum("Traceback (most recent" in line for line in log)
    row.log_lines = sum(bool(re.search(fault.sign, line)) for line in log) if fault.sign else None
    row.notes = at.notes
    return row


async def measure(faults: Sequence[Fault], checkout: Path, calls: int, say: Say) -> list[Row]:
    """Measure these faults, one after the other, on the server of `checkout`.

    Those that need no server of their own share one, and come last. What cannot be measured is a row that
    says so.
    """
    rows = []
    async with stand(checkout) as at, AsyncExitStack() as shared:
        serving = False
        for fault in sorted(faults, key=lambda each: each.prepare is None):
            try:
                async with AsyncExitStack() as own:
                    if fault.prepare is not None:
                        environment = await own.enter_async_context(fault.prepare(at))
                        await own.enter_async_context(at.serving(environment))
                    elif not serving:
                        await shared.enter_async_context(at.serving({}))
                        serving = True
                    row = await _measure(at, fault, calls)
            except NotHere as error:
                row = Row(fault.name, fault.title, fault.keepable, skipped=str(error))
            except Exception as error:  # the other faults are measured all the same
                traceback.print_exc()
                why = f"not measured: {type(error).__name__}: {str(error)[:200]}"
                row = Row(fault.name, fault.title, fault.keepable, skipped=why)
            rows.append(row)
            say(shown(row))
    return rows
