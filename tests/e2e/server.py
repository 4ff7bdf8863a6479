"""The real server in a process of its own, on a free port, with a data folder of its own."""

import asyncio
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing, contextmanager
from pathlib import Path

from tests.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
START_S = 60
STOP_S = 20
READY = ("Ready.", "Application startup complete", "Started worker")


class AgentServer:
    """`manage.py serve` (or another server of the same application, or of another `checkout` of it)
    as a context manager."""

    def __init__(self, folder, *, profiles=(), command=None, port=None, checkout=ROOT, **environment):
        self.folder = Path(folder)
        self.checkout = checkout
        self.port = port or free_port()
        self.profiles = profiles
        self.command = command or ["manage.py", "serve"]
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "ENV_FILE": os.devnull,
            "DATA_DIR": str(folder),
            "PORT": str(self.port),
            "NODE_NAME": "e2e",
            "ADMIN_PASSWORD": "correct horse battery",
            "DRAIN_SECONDS": "0",
            "MAX_CALLS": "200",  # many tests call one server at the same time
            **environment,
        }
        self.output = []
        self.process = None

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/ws/rustpbx"

    @property
    def page(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.prepare()
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def prepare(self):
        """Make the database and the profiles, if there are any; else the server makes its own."""
        if self.profiles:
            self.python("-m", "tests.e2e.make_profiles", json.dumps(list(self.profiles)))

    def start(self):
        """Start and wait until it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, *self.command],
            cwd=self.checkout,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._ready = threading.Event()
        self._ended = threading.Event()
        self._reader = threading.Thread(target=self._read, args=(self.process,))
        self._reader.start()
        assert self._ready.wait(START_S), "the server did not start:\n" + "".join(self.output)
        assert not self._ended.is_set(), "the server ended:\n" + "".join(self.output)

    def _read(self, process):
        for line in process.stdout:
            self.output.append(line)
            if any(sign in line for sign in READY):
                self._ready.set()
        process.stdout.close()
        self._ended.set()
        self._ready.set()

    def stop(self, with_signal=signal.SIGTERM, within=STOP_S):
        """Signal the process and wait for its end, so many seconds at most; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        status = self.process.wait(within)
        self._reader.join(STOP_S)
        return status

    def python(self, *arguments):
        """Run a Python program in the server's environment; its output."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    # --- What is stored, read and written past the server -------------------------------------------------

    @property
    def database(self):
        return self.folder / "voiceagent.sqlite3"

    def rows(self, sql, *values):
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(sql, values)]

    def write(self, sql, *values):
        """Run a statement that changes rows; at least one has to change."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            assert connection.execute(sql, values).rowcount > 0

    def session(self, room_id):
        (row,) = self.rows("SELECT * FROM calls_callsession WHERE room_id = ?", room_id)
        return row

    def turns(self, room_id):
        return self.rows(
            "SELECT t.* FROM calls_turn t JOIN calls_callsession s ON t.session_id = s.id"
            ' WHERE s.room_id = ? ORDER BY t."index"',
            room_id,
        )

    def events(self, room_id):
        rows = self.rows(
            "SELECT e.* FROM calls_callevent e JOIN calls_callsession s ON e.session_id = s.id"
            " WHERE s.room_id = ? ORDER BY e.ms",
            room_id,
        )
        return [{**row, "detail": json.loads(row["detail"])} for row in rows]

    async def finished(self, room_id, within=10):
        """The call's row once it is no longer active."""
        async with asyncio.timeout(within):
            while not (  # noqa: ASYNC110  another process writes it: there is no event to wait for
                rows := self.rows(
                    "SELECT * FROM calls_callsession WHERE room_id = ? AND status <> 'active'", room_id
                )
            ):
                await asyncio.sleep(0.05)
        return rows[0]

    @contextmanager
    def memory_grows_at_most(self, megabytes):
        """The process's resident memory at its highest in the block, over that at its beginning."""
        folder = Path(f"/proc/{self.process.pid}")

        def memory(field):
            line = re.search(rf"^{field}:\s+(\d+) kB", (folder / "status").read_text(), re.MULTILINE)
            return int(line[1]) / 1024

        (folder / "clear_refs").write_text("5")  # the highest is counted from now on
        before = memory("VmRSS")
        yield
        grown = memory("VmHWM") - before
        assert grown <= megabytes, f"the server's memory grew by {grown:.0f} MB"

    def waited_s(self):
        """How long the main thread was ready to run, and the machine busy with others, in s."""
        _ran, waited, _times = Path(f"/proc/{self.process.pid}/schedstat").read_text().split()
        return int(waited) / 1e9

    def children(self):
        """The processes the server started, by their command lines."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return {int(pid): Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in children}
