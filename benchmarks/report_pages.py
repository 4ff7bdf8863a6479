"""The section of docs/performance.md about the analysts' pages."""

from collections.abc import Sequence
from typing import Any

from benchmarks import prose
from benchmarks.pages import REQUESTS

NAMES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def section(results: Sequence[dict[str, Any]]) -> str:
    """The section: a row for each page, a column for each database."""
    first = results[0]
    text = prose.PAGES.format(
        turns=first["turns"], calls=first["calls"], longest=first["longest"], requests=REQUESTS
    )
    names = [NAMES[each["database"]] for each in results]
    lines = [_row(["", *(f"{name} p50 / longest" for name in names)]), _row(["---"] * (len(names) + 1))]
    for rows in zip(*(each["pages"] for each in results), strict=True):
        times = (f"{row['p50_ms']:.0f} / {row['max_ms']:.0f}" for row in rows)
        lines.append(_row([rows[0]["page"], *times]))
    filled = ", ".join(f"{each['fill_s']} s on {NAMES[each['database']]}" for each in results)
    return "\n".join(["## The pages\n", text, *lines, "", f"Filling took {filled}.", ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
