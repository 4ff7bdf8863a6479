"""Tasks that belong to somebody."""

import asyncio

from calls.tasks import Tasks


async def fail():
    raise OSError("no voice")


async def test_a_task_that_fails_is_told_in_the_log(caplog):
    tasks = Tasks()
    tasks.spawn(fail())
    await tasks.wait(10)
    await asyncio.sleep(0)
    (record,) = caplog.records
    assert record.levelname == "ERROR"
    assert "no voice" in caplog.text


async def test_tasks_end_with_their_owner(caplog):
    tasks, begun = Tasks(), asyncio.Event()
    left = []

    async def work():
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            left.append("it")

    tasks.spawn(work())
    await begun.wait()
    tasks.cancel()
    await tasks.wait(10)
    assert left == ["it"]
    assert not caplog.records
