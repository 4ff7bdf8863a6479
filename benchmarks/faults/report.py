"""docs/reliability.md: its tables, written from what was measured and kept in faults.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import soak, store
from benchmarks.faults.row import Row, table

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "benchmarks" / "faults.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
RUNS = ("before", "now")


def load() -> dict[str, Any]:
    """What is kept: the runs "before" and "now", and the soak; nothing if there is none."""
    return json.loads(KEPT.read_text()) if KEPT.exists() else {}


def keep(name: str, commit: str, **figures: Any) -> dict[str, Any]:
    """Keep figures under a name, with the commit, the day and the machine they are of; all that is kept."""
    kept = load()
    measured = {"commit": commit, "day": datetime.now(UTC).date().isoformat(), "machine": store.machine()}
    kept[name] = measured | figures
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    return kept


def merged(run: str, rows: Sequence[Row], names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a run in the order of `names`: these, and those that are kept of faults not among them."""
    kept = {each["name"]: each for each in load().get(run, {}).get("rows", [])}
    kept |= {row.name: asdict(row) for row in rows}
    return [kept[name] for name in names if name in kept]


def write(kept: Mapping[str, Any]) -> None:
    """Write the tables into the document, each between its two marks."""
    text = DOCUMENT.read_text()
    if runs := {run: kept[run] for run in RUNS if run in kept}:
        text = _between(text, "faults", faults_section(runs))
    if measured := kept.get("soak"):
        text = _between(text, "soak", f"{_where(measured)}\n\n{soak.table(measured['figures'])}")
    DOCUMENT.write_text(text)


def _between(text: str, name: str, section: str) -> str:
    begin, end = f"<!-- {name}: written by python -m benchmarks {name} -->", f"<!-- {name}: end -->"
    head, found, rest = text.partition(begin)
    _, also, tail = rest.partition(end)
    if not (found and also):
        raise ValueError(f"expected {begin} and {end} in {DOCUMENT}")
    return f"{head}{begin}\n\n{section}\n\n{end}{tail}"


def faults_section(runs: Mapping[str, Any]) -> str:
    """The table of the faults, with what was measured in a line above."""
    lines = [f"{run.capitalize()}: {_where(measured)}" for run, measured in runs.items()]
    if len(runs) > 1:
        lines.append("A cell with an arrow says what it was before and what it is now.")
    rows = {run: [Row(**each) for each in measured["rows"]] for run, measured in runs.items()}
    return "\n\n".join(["  \n".join(lines), table(rows)])


def _where(measured: Mapping[str, Any]) -> str:
    machine = measured["machine"]
    return f"{measured['commit']}, {measured['day']}, {machine['cores']} cores of {machine['cpu']}."
