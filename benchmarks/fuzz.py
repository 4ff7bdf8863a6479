"""Sends generated messages and requests to a real server: no exception, no status 500, no memory growth."""

import asyncio
import json
import os
import re
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.faults.stand import Stand, stand
from tests.fuzz import socket as connection
from tests.fuzz.messages import Session, sessions
from tests.fuzz.requests import Request

ROOT = Path(__file__).resolve().parent.parent
MESSAGES, REQUESTS = 100_000, 20_000
SESSIONS_AT_ONCE, REQUESTS_AT_ONCE = 100, 1_000  # between two looks at memory and log
ANSWER_S = 30.0
FLAT_MB = 25.0  # growth that is permitted after the first fifth
MADE_UP_CALLS = 200
SHOWN_LINES = 30
TRACEBACK = "Traceback (most recent call last)"

Say = Callable[[str], None]


@dataclass
class Found:
    """What was sent, what was wrong, and the server's memory after each batch (MB)."""

    kind: str
    sent: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    tracebacks: list[str] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)

    @property
    def growth_mb(self) -> float:
        """From the end of the first fifth to the end."""
        if not self.memory_mb:
            return 0.0
        return self.memory_mb[-1] - self.memory_mb[len(self.memory_mb) // 5]

    def verdict(self) -> str:
        """A sentence, and what was wrong."""
        flat = "flat" if self.growth_mb <= FLAT_MB else "GROWING"
        lines = [
            f"{self.sent} {self.kind} in {self.seconds:.0f} s: {len(self.wrong)} wrong answers, "
            f"{len(self.tracebacks)} tracebacks, memory {flat} "
            f"({self.memory_mb[0]:.0f} MB, {self.memory_mb[-1]:.0f} at the end)"
        ]
        kinds = {each.rstrip().rpartition("\n")[2][:60]: each for each in reversed(self.tracebacks)}
        return "\n".join([*lines, *self.wrong, *kinds.values()])


def _memory_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def _batch(strategy: st.SearchStrategy[Any], size: int, number: int, try_one: Callable[[Any], None]) -> str:
    """Try `size` examples; return the smallest that goes wrong, or ""."""

    @seed(number)
    @settings(
        max_examples=size,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def tried(example: Any) -> None:
        try_one(example)

    try:
        tried()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])[:4_000]
    return ""


def _tracebacks(log: list[str]) -> list[str]:
    """Each traceback with the line before it."""
    parts = re.split(r"^(?=\d{4}-\d\d-\d\d )", "".join(log), flags=re.MULTILINE)
    return [part for part in parts if TRACEBACK in part]


def _fuzz(at: Stand, found: Found, wanted: int, batch: Callable[[int], str], say: Say) -> Found:
    """Send batches until `wanted` examples have been sent."""
    begin, number, logged = time.monotonic(), 0, len(at.server.output)
    while found.sent < wanted:
        wrong = batch(number)
        log = at.server.output[logged:]
        if wrong:
            found.wrong.append(wrong)
            say("\n".join([wrong, "The end of the server's log:", *log[-SHOWN_LINES:]]))
        number += 1
        logged += len(log)
        found.tracebacks += _tracebacks(log)
        found.memory_mb.append(_memory_mb(at.server.process.pid))
        found.seconds = time.monotonic() - begin
        say(f"{found.sent} {found.kind}, {found.memory_mb[-1]:.0f} MB, {found.seconds:.0f} s")
    return found


def fuzz_socket(at: Stand, wanted: int, say: Say) -> Found:
    """Send `wanted` messages to `/ws/rustpbx`."""
    found = Found("messages")
    port = at.server.port

    def try_one(session: Session) -> None:
        found.sent += asyncio.run(connection.run(port, session))

    return _fuzz(
        at, found, wanted, lambda number: _batch(sessions(20, 100), SESSIONS_AT_ONCE, number, try_one), say
    )


def fuzz_pages(at: Stand, wanted: int, say: Say) -> Found:
    """Send `wanted` requests, as each persona, to every address of the URL configuration."""
    found = Found("requests")
    at.server.python("manage.py", "fill", "--calls", str(MADE_UP_CALLS))
    known = [str(id) for (id,) in at.query("SELECT id FROM calls_callsession LIMIT 5")]
    strategy = _requests([*known, "1", "2", "3", "4"])
    keys: dict[str, str] = {}

    def try_one(request: Request) -> None:
        status = _ask(at.server.port, request.wire(keys[request.persona]))
        found.sent += 1
        if status >= 500 and not request.target.startswith("/readyz"):
            raise connection.Wrong(f"answered with {status}")

    def batch(number: int) -> str:
        at.server.environment["DJANGO_SETTINGS_MODULE"] = "voiceagent.settings"
        keys.update(json.loads(at.server.python("-m", "tests.fuzz.personas")))
        return _batch(strategy, REQUESTS_AT_ONCE, number, try_one)

    return _fuzz(at, found, wanted, batch, say)


def _requests(known: list[str]) -> st.SearchStrategy[Request]:
    """Requests to the addresses of this product's own configuration, which Django has to be set up for."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "voiceagent.settings",
            "DATA_DIR": folder,
            "ENV_FILE": os.devnull,
        }
        import django

        django.setup()
        from tests.fuzz.addresses import addresses
        from tests.fuzz.requests import requests

        return requests(addresses(), known)


def _ask(port: int, request: bytes) -> int:
    """The status a request is answered with; 400 if the connection is closed without an answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_S) as line:
        answer = b""
        with suppress(ConnectionError):
            line.sendall(request)
            while more := line.recv(65_536):
                answer += more[: 64 - len(answer)]
        return int(answer.split(maxsplit=2)[1]) if answer else 400


async def _run(messages: int, requests: int, say: Say) -> list[Found]:
    async with stand(ROOT) as at, at.serving({"LOG_LEVEL": "WARNING"}):
        found = []
        if messages:
            found.append(await asyncio.to_thread(fuzz_socket, at, messages, say))
        if requests:
            found.append(await asyncio.to_thread(fuzz_pages, at, requests, say))
        return found


def run(messages: int, requests: int, say: Say) -> bool:
    """Send messages and requests; return whether all went well."""
    found = asyncio.run(_run(messages, requests, say))
    for each in found:
        say(each.verdict())
    return not any(each.wrong or each.tracebacks or each.growth_mb > FLAT_MB for each in found)
