"""docs/reliability.md: its table, written from what was measured and kept."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import store
from benchmarks.faults.row import Row, table

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "benchmarks" / "faults.json"
DOCUMENT = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- faults: written by python -m benchmarks faults -->", "<!-- faults: end -->"
ORDER = ("before", "now")


def keep(run: str, rows: Sequence[Row], commit: str) -> dict[str, Any]:
    """Put the rows into faults.json as those of the run "before" or "now", and return all that is kept.

    Rows of the same name are replaced.
    """
    kept: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    others = [
        each for each in kept.get(run, {}).get("rows", []) if each["name"] not in {r.name for r in rows}
    ]
    kept[run] = {
        "commit": commit,
        "day": datetime.now(UTC).date().isoformat(),
        "machine": store.machine(),
        "rows": [*map(asdict, rows), *others],
    }
    KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    return kept


def write(kept: dict[str, Any], names: Sequence[str]) -> None:
    """Write the table into the document, in the order of `names`."""
    text = DOCUMENT.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    DOCUMENT.write_text(f"{head}{BEGIN}\n\n{section(kept, names)}\n\n{END}{tail}")


def section(kept: dict[str, Any], names: Sequence[str]) -> str:
    """The table with a line above that says what was measured."""
    place = {name: n for n, name in enumerate(names)}
    runs = {run: kept[run] for run in ORDER if run in kept}
    rows = {
        run: sorted((Row(**each) for each in made["rows"]), key=lambda row: place.get(row.name, len(place)))
        for run, made in runs.items()
    }
    told = [f"{run}: {made['commit']}, {made['day']}" for run, made in runs.items()]
    arrow = " A cell with an arrow says what it was before and what it is now." if len(runs) > 1 else ""
    machine = next(reversed(runs.values()))["machine"]
    where = f"{machine['cores']} cores of {machine['cpu']}"
    return f"Measured on {where} ({'; '.join(told)}).{arrow}\n\n{table(rows)}"
