"""Measures one point of a curve: a fresh server on one core, a load generator on another."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.load import Load
from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent
START_S = 90.0
STOP_S = 15.0
SERVERS = {"ours": ("daphne", "uvicorn", "granian"), "baseline": ("uvicorn",)}


@dataclass(frozen=True)
class Server:
    """A server under test, and how to reach it."""

    process: subprocess.Popen[bytes]
    port: int
    probe: Path
    folder: Path
    started_s: float  # from its start until it took connections

    def log(self) -> str:
        """The end of the server's output."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]


class ServerFailed(Exception):
    """The server did not start; the text is the end of its log."""


def cores() -> tuple[int, int]:
    """The core for the server and the one for the load; the same one if the machine has only one."""
    available = sorted(os.sched_getaffinity(0))
    return available[0], available[-1]


def environment(folder: Path) -> dict[str, str]:
    """The environment of a server under test: ours without settings of the product, with data in `folder`."""
    # With keys set, "auto" stands for the cloud providers: no embedded model is loaded or used.
    own = {
        "DATA_DIR": str(folder / "data"),
        "ENV_FILE": os.devnull,
        "CARTESIA_API_KEY": "none",
        "OPENAI_API_KEY": "none",
        "LOG_LEVEL": "WARNING",
        "MAX_CALLS": "10000",
        "DRAIN_SECONDS": "0",
        "PYTHONPATH": str(ROOT),
    }
    drop = {"DATABASE_URL", "REDIS_URL", "HOST", "PORT", "PRODUCTION", "STREAM_TOKENS"}
    return {key: value for key, value in os.environ.items() if key not in drop} | own


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder that is deleted afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="voiceagent-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def started(
    command: list[str], own: dict[str, str], folder: Path, ready: Callable[[], bool]
) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """A process that is `ready`, and the seconds that took; it is stopped afterwards.

    Raises:
        ServerFailed: it was not ready within a minute and a half.
    """
    begin = time.monotonic()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  our own modules
            command, cwd=ROOT, env=own, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    try:
        while not ready():
            if process.poll() is not None or time.monotonic() - begin > START_S:
                raise ServerFailed((folder / "log").read_text(errors="replace")[-4000:])
            time.sleep(0.02)
        yield process, time.monotonic() - begin
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def running(side: str, server: str, *extra: str, own: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server on the first core, ready to take calls; stopped and cleaned up afterwards.

    `extra` are further arguments of its module, `own` is added to its environment. Raises ServerFailed.
    """
    with scratch() as folder:
        port, probe = free_port(), folder / "probe"
        module = [sys.executable, "-m", f"benchmarks.serve_{side}", server, str(port), str(probe), *extra]
        command = ["taskset", "-c", str(cores()[0]), *module]
        ready = lambda: probe.exists() and accepts(port)  # noqa: E731  it would be a function for one line
        with started(command, {**environment(folder), **(own or {})}, folder, ready) as (process, seconds):
            yield Server(process, port, probe, folder, seconds)


def accepts(port: int) -> bool:
    """Whether a server takes connections at this port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def measure(side: str, server: str, calls: int, seconds: float, **options: Any) -> dict[str, Any]:
    """Measure one point on a fresh server: `calls` at once on `side` ("ours" or "baseline") for `seconds`.

    `options` are further fields of Load. Raises ServerFailed, and RuntimeError with what the load generator
    wrote when it failed.
    """
    with running(side, server) as under_test:
        load = Load(under_test.port, str(under_test.probe), calls, seconds, **options)
        others = _busy_elsewhere(under_test.process.pid)
        figures = generate(load)
        figures["core_busy_elsewhere_pct"] = others()
    return {"side": side, "server": server, **figures}


def generate(load: Load) -> dict[str, Any]:
    """Run the load generator on its core; return its figures. Raises RuntimeError with its output."""
    bound = 120 + load.calls * load.ramp_s + load.seconds
    done = subprocess.run(  # noqa: S603  our own module
        ["taskset", "-c", str(cores()[1]), sys.executable, "-m", "benchmarks.load"],  # noqa: S607  see above
        cwd=ROOT, input=json.dumps(asdict(load)), capture_output=True, text=True, timeout=bound, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"the load generator failed: {done.stderr[-4000:]}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _busy_elsewhere(pid: int) -> Any:
    """Return a function that returns the percentage of the server's core used by others since this call."""
    core = cores()[0]
    ticks = os.sysconf("SC_CLK_TCK")

    def spent() -> tuple[float, float]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        line = next(
            line for line in Path("/proc/stat").read_text().splitlines() if line.startswith(f"cpu{core} ")
        )
        user, nice, system, _idle, _wait, irq, soft, steal = map(int, line.split()[1:9])
        return (user + nice + system + irq + soft + steal) / ticks, sum(map(int, fields[11:13])) / ticks

    begin, (core_before, own_before) = time.monotonic(), spent()

    def share() -> float:
        core_now, own_now = spent()
        others = (core_now - core_before) - (own_now - own_before)
        return round(100 * max(0.0, others) / (time.monotonic() - begin), 1)

    return share
