"""How soon RustPBX's IVR is answered while calls go on."""

import os
import subprocess
import sys
import threading
import time
from typing import Any

import httpx

from benchmarks import point
from benchmarks.figures import percentile
from benchmarks.load import Load

# Makes a PBX in the server's database and prints its token.
MAKE = """
import django; django.setup()
from calls.models import Pbx
print(Pbx.objects.create(name="bench", agent_url="http://agent:8765").new_ivr_token())
"""
CALLS, SECONDS = 50, 60.0
PAUSE_S = 0.25  # between two questions: more new calls than fifty places turn over
SETTLE_S = 15.0  # until the calls talk


def measure(calls: int, seconds: float) -> dict[str, Any]:
    """Ask about calls for `seconds` while so many talk; milliseconds from a question to its answer.

    Each call is asked about twice: as it begins, and as its audio did not come about.

    Raises:
        RuntimeError: an answer was none, or the load generator failed.
    """
    with point.running("ours", "daphne") as server:
        own = {**point.environment(server.folder), "DJANGO_SETTINGS_MODULE": "voiceagent.settings"}
        made = subprocess.run(  # noqa: S603  our own code
            [sys.executable, "-c", MAKE], cwd=point.ROOT, env=own, capture_output=True, text=True, check=True
        )
        load = Load(server.port, str(server.probe), calls, SETTLE_S + seconds)
        talking = threading.Thread(target=lambda: _run(load, calls))
        talking.start()
        os.sched_setaffinity(0, {point.cores()[1]})
        time.sleep(SETTLE_S if calls else 0.0)
        first, later = _ask(f"http://127.0.0.1:{server.port}/rustpbx/ivr", made.stdout.strip(), seconds)
        talking.join()
    return {"calls": calls, "first": _figures(first), "later": _figures(later)}


def _figures(took: list[float]) -> dict[str, float]:
    names = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    return {"asked": len(took), **{name: round(percentile(took, at) or 0.0, 1) for name, at in names.items()}}


def _run(load: Load, calls: int) -> None:
    if calls:
        point.generate(load)


def _ask(url: str, token: str, seconds: float) -> tuple[list[float], list[float]]:
    """Ask about one call after another; how long the first and the second question of each took, in ms."""
    first: list[float] = []
    later: list[float] = []
    until = time.monotonic() + seconds
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:
        while time.monotonic() < until:
            call = {"session_id": f"call-{len(first)}", "caller": "sip:100@pbx", "callee": "sip:agent@pbx"}
            first.append(_timed(client, url, {**call, "event": {"type": "session_start"}}, "bridge"))
            time.sleep(PAUSE_S)
            back = {"return_from": "bridge", "return_bridge": "1"}
            later.append(_timed(client, url, {**call, "variables": back}, "prompt"))
            time.sleep(PAUSE_S)
    return first, later


def _timed(client: httpx.Client, url: str, question: dict[str, Any], expected: str) -> float:
    began = time.monotonic()
    answer = client.post(url, json=question)
    took = (time.monotonic() - began) * 1000
    if answer.json().get("type") != expected:
        raise RuntimeError(f"expected {expected} for an answer, got {answer.text[:200]!r}")
    return took
