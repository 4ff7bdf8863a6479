"""What is stored goes away: the database, Redis, the disk."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import psycopg

from benchmarks.faults.fault import NotHere, fault
from benchmarks.faults.stand import Stand
from tests.services import SERVER_USER

DISK_MB = 96
BLOCK = bytes(1 << 16)


@fault("PostgreSQL is down for 20 s", lasts_s=20, sign="database|connection")
async def database_down(stand: Stand) -> AsyncIterator[None]:
    """Stopped as by a crash, and started again."""
    await asyncio.to_thread(stand.postgres.stop)
    yield
    await asyncio.to_thread(stand.postgres.start)


@fault("PostgreSQL is read-only for 15 s, as after a failover", lasts_s=15, sign="read-only")
async def database_read_only(stand: Stand) -> AsyncIterator[None]:
    """Every transaction is, of old and of new connections."""

    def set_read_only(value: str) -> None:
        writing = "-c default_transaction_read_only=off"
        with psycopg.connect(stand.postgres.url, options=writing, autocommit=True) as connection:
            connection.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
            connection.execute("SELECT pg_reload_conf()")

    await asyncio.to_thread(set_read_only, "on")
    try:
        yield
    finally:
        await asyncio.to_thread(set_read_only, "off")


@fault("Redis is down for 10 s", sign="[Rr]edis|Connect call failed")
async def redis_down(stand: Stand) -> AsyncIterator[None]:
    """Killed, and started again empty."""
    await asyncio.to_thread(stand.redis.stop)
    yield
    await asyncio.to_thread(stand.redis.start)


@contextmanager
def _small_disk(stand: Stand) -> Iterator[Path]:
    """A disk of its own: a tmpfs, which only root may mount. Raises NotHere."""
    folder = stand.folder / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        raise NotHere("a small disk (a tmpfs) can only be mounted by root")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)  # noqa: S603  see above
    if done.returncode:
        raise NotHere(f"a small disk (a tmpfs) cannot be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607  see above
        folder.rmdir()


@asynccontextmanager
async def _full(folder: Path) -> AsyncIterator[None]:
    """The disk that `folder` lies on is full within."""
    filling = folder / "filling"

    def fill() -> None:
        with filling.open("wb", buffering=0) as file:
            try:
                while file.write(BLOCK):
                    pass
            except OSError:
                return

    await asyncio.to_thread(fill)
    try:
        yield
    finally:
        filling.unlink()


@asynccontextmanager
async def _data_on_a_small_disk(stand: Stand) -> AsyncIterator[Mapping[str, str]]:
    with _small_disk(stand) as disk:
        yield {"DATABASE_URL": f"sqlite:///{disk}/data/voiceagent.sqlite3", "DATA_DIR": f"{disk}/data"}


@fault(
    "SQLite's disk is full for 15 s",
    lasts_s=15,
    prepare=_data_on_a_small_disk,
    sign="disk is full|No space left",
)
async def disk_full_sqlite(stand: Stand) -> AsyncIterator[None]:
    """DATA_DIR lies on a tmpfs, which a file fills."""
    async with _full(stand.server.folder.parent):
        yield


@asynccontextmanager
async def _tables_on_a_small_disk(stand: Stand) -> AsyncIterator[Mapping[str, str]]:
    """The database's tables lie on a small disk; PostgreSQL's log does not."""
    admin = f"{stand.postgres.address}/postgres"

    def execute(*statements: str) -> None:
        with psycopg.connect(admin, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    with _small_disk(stand) as disk:
        tables = disk / "tables"
        tables.mkdir()
        shutil.chown(tables, SERVER_USER, SERVER_USER)
        stand.folder.chmod(0o755)  # PostgreSQL's user has to get there
        move = "ALTER DATABASE voiceagent SET TABLESPACE"
        await asyncio.to_thread(execute, f"CREATE TABLESPACE small LOCATION '{tables}'", f"{move} small")
        try:
            yield {}
        finally:
            await asyncio.to_thread(execute, f"{move} pg_default", "DROP TABLESPACE small")


@fault(
    "PostgreSQL's disk is full for 20 s",
    lasts_s=20,
    prepare=_tables_on_a_small_disk,
    sign="No space left|could not extend",
)
async def disk_full_postgres(stand: Stand) -> AsyncIterator[None]:
    """Its tables lie on a tmpfs, which a file fills."""
    async with _full(stand.folder / "disk"):
        yield
