"""Real services for the suite: a PostgreSQL cluster and a Redis server, private to it and gone at its end."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from redis import ConnectionError as RedisConnectionError
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from tests.ports import free_port

SERVER_USER = "postgres"  # PostgreSQL refuses to run as root; Debian's package brings this user
START_TIMEOUT = 30  # seconds


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an empty database `voiceagent` on a private PostgreSQL cluster; its user may create more."""
    with private_postgres() as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The URL of a private Redis server that keeps nothing on disk."""
    with private_redis() as server:
        yield server.url


class PrivateRedis:
    """A Redis server that keeps nothing on disk and can be stopped and started again on its port."""

    def __init__(self, program: str, folder: str) -> None:
        self._port = free_port()
        self._command = [program, "--port", str(self._port), "--bind", "127.0.0.1", "--dir", folder]
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [*self._command, "--save", "", "--appendonly", "no"]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _await_redis(self._port)

    def stop(self) -> None:
        """Stop it and wait for its end."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()


@contextmanager
def private_redis() -> Iterator[PrivateRedis]:
    """A Redis server of one's own."""
    program = shutil.which("redis-server")
    if not program:
        pytest.fail("redis-server is missing: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="voiceagent-redis-") as folder:
        server = PrivateRedis(program, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _postgres_programs() -> Path:
    """The folder with `initdb` and `pg_ctl` of the newest PostgreSQL; fails the test if there is none."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")  # Debian's place, which is not in PATH
    found = sorted((path.parent for path in folders), key=lambda path: float(path.parent.name))
    if found:
        return found[-1]
    if on_path := shutil.which("initdb"):
        return Path(on_path).parent
    return pytest.fail("PostgreSQL is missing: apt-get install postgresql")


class PrivatePostgres:
    """A PostgreSQL cluster of one's own, which can be stopped and started again on its port."""

    def __init__(self, folder: Path, options: str) -> None:
        self._programs = _postgres_programs()
        self._data, self._log = folder / "data", folder / "log"
        port = free_port()
        self._options = f"-h 127.0.0.1 -p {port} -k {folder} {options}"
        self.address = f"postgres://voiceagent@127.0.0.1:{port}"
        self.url = f"{self.address}/voiceagent"

    def create(self) -> None:
        """Make the cluster, start it and make its one database."""
        programs = self._programs / "initdb"
        _run_unprivileged(programs, "-D", self._data, "-U", "voiceagent", "-A", "trust", "-E", "UTF8", "-N")
        self.start()
        with psycopg.connect(f"{self.address}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE voiceagent")

    def start(self) -> None:
        """Start it and wait until it answers."""
        # With `-l` the server lets go of our pipe, which would otherwise stay open until it stops.
        self._control("start", "-t", START_TIMEOUT, "-o", self._options, "-l", self._log)

    def stop(self) -> None:
        """Stop it at once, as a crash does."""
        self._control("stop", "-m", "immediate")

    def _control(self, verb: str, *options: object) -> None:
        _run_unprivileged(self._programs / "pg_ctl", verb, "-w", "-D", self._data, *options)


@contextmanager
def private_cluster(options: str = "-c fsync=off -c full_page_writes=off") -> Iterator[PrivatePostgres]:
    """A PostgreSQL cluster that is started with these options; it is gone at the end."""
    with _private_folder("postgres") as folder:
        cluster = PrivatePostgres(folder, options)
        try:
            cluster.create()
            yield cluster
        finally:
            with suppress(pytest.fail.Exception):  # a test may have stopped it
                cluster.stop()


@contextmanager
def private_postgres(durable: bool = False) -> Iterator[str]:
    """The URL of an empty database on a private PostgreSQL cluster, which waits for the disk if `durable`."""
    with private_cluster(*([""] if durable else [])) as cluster:
        yield cluster.url


@contextmanager
def _private_folder(name: str) -> Iterator[Path]:
    """A temporary folder; it belongs to the unprivileged user if we are root."""
    # The stopped server may still be removing its own files.
    with tempfile.TemporaryDirectory(prefix=f"voiceagent-{name}-", ignore_cleanup_errors=True) as folder:
        if os.geteuid() == 0:
            shutil.chown(folder, SERVER_USER, SERVER_USER)
        yield Path(folder)


def _run_unprivileged(*command: object) -> None:
    """Run `command`, as `SERVER_USER` if we are root; fails the test with its output if it fails."""
    arguments = [str(part) for part in command]
    other_user = SERVER_USER if os.geteuid() == 0 else None
    done = subprocess.run(
        arguments,
        user=other_user,
        group=other_user,
        extra_groups=[] if other_user else None,
        cwd="/",  # the unprivileged user may not be allowed into ours
        capture_output=True,
        text=True,
        timeout=2 * START_TIMEOUT,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def _await_redis(port: int) -> None:
    """Return once the server on `port` answers; fails the test if it never does."""
    retry = Retry(ConstantBackoff(0.05), retries=int(START_TIMEOUT / 0.05))
    with Redis(port=port, retry=retry) as client:
        try:
            client.ping()
        except RedisConnectionError as error:
            pytest.fail(f"redis-server did not start on port {port}: {error}")
