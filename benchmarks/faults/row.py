"""What came of a fault, as it is kept, printed and written into docs/reliability.md."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass
class Row:
    """What came of a fault. Seconds count from when it began to be put right; None: not within bounds.

    `kept` of the `calls` in progress went on; `answered` of the `new` calls made meanwhile heard the agent.
    """

    name: str
    title: str
    keepable: bool
    calls: int = 0
    kept: int = 0
    new: int = 0
    answered: int = 0
    records: int = 0
    lost: int = 0
    answers_s: float | None = None
    stored_s: float | None = None
    tracebacks: int = 0
    log_lines: int | None = None  # that name it; None if none is expected
    notes: list[str] = field(default_factory=list)
    lost_records: list[str] = field(default_factory=list)  # the first few
    skipped: str = ""


def shown(row: Row) -> str:
    """A row as it is printed while the faults are made."""
    if row.skipped:
        return f"{row.title}: {row.skipped}"
    figures = [
        f"{row.kept} of {row.calls} calls kept",
        f"{row.answered} of {row.new} new calls answered",
        f"{row.lost} of {row.records} records lost",
        f"answers after {seconds(row.answers_s)} s",
        f"stored after {seconds(row.stored_s)} s",
        f"{row.tracebacks} tracebacks",
        *([] if row.log_lines is None else [f"{row.log_lines} lines of log name it"]),
        *row.notes,
    ]
    return f"{row.title}: {', '.join(figures)}" + "".join(f"\n    lost: {each}" for each in row.lost_records)


def seconds(value: float | None) -> str:
    """Seconds as a table shows them."""
    return "never" if value is None else f"{value:.1f}"


def table(runs: Mapping[str, Sequence[Row]]) -> str:
    """A Markdown table of one run, or of two, whose cells say "before → after"."""
    names = list(dict.fromkeys(row.name for rows in runs.values() for row in rows))
    lines = [
        "| What fails | calls kept | new calls answered | records lost | answers again, s | all stored, s |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        found = [next((row for row in rows if row.name == name), None) for rows in runs.values()]
        title = next(row.title for row in reversed(found) if row is not None)
        cells = zip(*(_cells(row) for row in found), strict=True)
        lines.append(f"| {title} | " + " | ".join(_change(list(cell)) for cell in cells) + " |")
    return "\n".join(lines)


def _cells(row: Row | None) -> list[str]:
    if row is None or row.skipped:
        return ["–"] * 5
    return [
        f"{row.kept} of {row.calls}" + ("" if row.keepable else "¹"),
        f"{row.answered} of {row.new}",
        f"{row.lost} of {row.records}",
        seconds(row.answers_s),
        seconds(row.stored_s),
    ]


def _change(values: Sequence[str]) -> str:
    return values[0] if len(set(values)) == 1 else " → ".join(values)
