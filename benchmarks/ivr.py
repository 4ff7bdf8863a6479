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
PAUSE_S = 0.25  # between two questions: more new calls than fifty places turn over
SETTLE_S = 15.0  # until the calls talk


def measure(calls: int, seconds: float) -> dict[str, Any]:
    """Ask about new calls for `seconds` while so many talk; milliseconds from a question to its answer.

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
        took = _ask(f"http://127.0.0.1:{server.port}/rustpbx/ivr", made.stdout.strip(), seconds)
        talking.join()
    names = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
    figures = {name: round(percentile(took, share) or 0.0, 1) for name, share in names.items()}
    return {"calls": calls, "asked": len(took), **figures}


def _run(load: Load, calls: int) -> None:
    if calls:
        point.generate(load)


def _ask(url: str, token: str, seconds: float) -> list[float]:
    """Ask once after another, each of another call; how long each took, in ms."""
    took, until = [], time.monotonic() + seconds
    with httpx.Client(headers={"Authorization": f"Bearer {token}"}) as client:
        while time.monotonic() < until:
            number = len(took)
            question = {
                "session_id": f"call-{number}",
                "caller": f"sip:{number}@pbx",
                "callee": "sip:agent@pbx",
            }
            began = time.monotonic()
            answer = client.post(url, json={**question, "event": {"type": "session_start"}})
            took.append((time.monotonic() - began) * 1000)
            if answer.json().get("type") != "bridge":
                raise RuntimeError(f"question {number} was answered {answer.text[:200]!r}")
            time.sleep(PAUSE_S)
    return took
