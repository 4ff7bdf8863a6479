"""Stores the measurements as JSON beside the code: results.json in brief, details.json in full."""

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
DETAILS = HERE / "details.json"
BRIEF = (
    "side",
    "server",
    "calls",
    "cpu_per_call_pct",
    "rss_per_call_mb",
    "loop_lag_p95_ms",
    "pacing_p99_ms",
    "added_turn_p95_ms",
    "bargein_ms",
    "frames_lost",
)
PACKAGES = (
    "pipecat-ai",
    "django",
    "channels",
    "daphne",
    "uvicorn",
    "granian",
    "uvloop",
    "onnxruntime",
    "openvino",
)


def write_results(points: Sequence[dict[str, Any]]) -> None:
    """Write results.json: the figures named in BRIEF of each point that has figures."""
    brief = [{key: point[key] for key in BRIEF} for point in points if not point.get("failed")]
    lines = ",\n".join(f"  {json.dumps(each)}" for each in brief)
    RESULTS.write_text(f"[\n{lines}\n]\n")


def keep(**sections: Any) -> dict[str, Any]:
    """Store sections in details.json, with the machine and the day; return all of it."""
    details = load()
    now = {"machine": machine(), "day": datetime.now(UTC).date().isoformat()}
    for name, section in sections.items():
        details[name] = {**now, "figures": section}
    DETAILS.write_text(json.dumps(details, indent=1) + "\n")
    return details


def load() -> dict[str, Any]:
    """The contents of details.json, by section; empty if there is no such file."""
    return json.loads(DETAILS.read_text()) if DETAILS.exists() else {}


def machine() -> dict[str, Any]:
    """The machine and the versions that the measurement ran on."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    flags = {"hypervisor"} & set(Path("/proc/cpuinfo").read_text().split())
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "virtual": bool(flags),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "packages": {name: version(name) for name in PACKAGES},
    }
