"""The faults, the soak and their pages: what counts as lost, what grows, and a run of seconds of each."""

import json
from dataclasses import asdict, replace

import pytest

from benchmarks import soak
from benchmarks.faults import records, report
from benchmarks.faults.callers import Told
from benchmarks.faults.command import NAMES
from benchmarks.faults.fault import FAULTS
from benchmarks.faults.measure import measure
from benchmarks.faults.row import Row, shown, table
from benchmarks.faults.stand import Stored

GREETING = "Hello! How can I help?"


class Caller:
    """What is known of a caller at the end: of those fields of Witness that count."""

    def __init__(self, *told, call_id="1", hanging_up=True, ended_at=9.0, unreachable=False):
        self.told = [Told(at, speaker, text) for at, speaker, text in told]
        self.call_id, self.room, self.hanging_up = call_id, "room", hanging_up
        self.ended_at, self.unreachable = ended_at, unreachable


def said(**words):
    return {speaker: text.split() for speaker, text in words.items()}


TOLD = [(1.0, "agent", GREETING), (5.0, "caller", "Order one."), (7.0, "agent", "It is here.")]


@pytest.mark.parametrize(
    ("stored", "missing"),
    [
        (Stored("completed", "disconnect", said(agent=f"{GREETING} It is here.", caller="Order one.")), []),
        (
            Stored("completed", "closed", said(agent=f"{GREETING} It is here.", caller="Order")),
            ["Order one."],
        ),
        (
            Stored("completed", "closed", said(agent=f"It is here. {GREETING}", caller="Order one.")),
            ["It is"],
        ),
        (Stored("active", "", said(agent=f"{GREETING} It is here.", caller="Order one.")), ["still active"]),
        (
            Stored("interrupted", "crash", said(agent=f"{GREETING} It is here.", caller="Order one.")),
            ["crash"],
        ),
        (Stored("failed", "idle", said()), [GREETING, "It is here.", "Order one.", "idle"]),
        (None, ["the call", GREETING, "Order one.", "It is here."]),
    ],
)
def test_what_is_lost_of_a_call(stored, missing):
    lost = records.lost(Caller(*TOLD), stored)
    assert len(lost) == len(missing)
    assert all(any(part in text for text in lost) for part in missing)
    assert records.records(Caller(*TOLD)) == 5


def test_what_was_told_later_does_not_count_yet():
    stored = Stored("active", "", said(agent=GREETING))
    assert records.lost(Caller(*TOLD), stored, by=4.0) == []
    assert records.lost(Caller(*TOLD, unreachable=True), stored, by=4.0) == ["the end: still active"]
    assert len(records.lost(Caller(*TOLD), stored, by=6.0)) == 1


def test_others_may_close_the_calls_of_a_killed_server():
    stored = Stored("interrupted", "crash", said(agent=GREETING))
    cut_off = Caller((1.0, "agent", GREETING), hanging_up=False)
    assert records.lost(cut_off, stored, killed=True) == []
    assert records.lost(cut_off, stored) == ["the end: stored as crash"]
    assert records.lost(Caller((1.0, "agent", GREETING)), stored, killed=True) == ["the end: stored as crash"]


def test_who_was_refused_has_nothing_to_lose():
    assert records.lost(Caller(call_id=""), None) == []
    assert records.records(Caller(call_id="")) == 0


ROW = Row("kill", "kill −9", keepable=False, calls=8, kept=0, new=3, answered=1, records=50, lost=7,
          answers_s=12.34, stored_s=None, lost_records=["room: the end"])  # fmt: skip


def test_a_row_as_it_is_printed():
    text = shown(ROW)
    assert "0 of 8 calls kept" in text
    assert "stored after never s" in text
    assert text.endswith("lost: room: the end")
    assert shown(replace(ROW, skipped="needs root")) == "kill −9: needs root"


def test_the_table_says_what_changed():
    better = replace(ROW, lost=0, stored_s=31.0)
    lines = table({"before": [ROW], "now": [better, replace(ROW, name="flood", title="flood")]}).splitlines()
    assert lines[2] == "| kill −9 | 0 of 8¹ | 1 of 3 | 7 of 50 → 0 of 50 | 12.3 | never → 31.0 |"
    assert lines[3].startswith("| flood | – → 0 of 8¹ |")
    assert "→" not in table({"now": [better]})


def test_the_document_keeps_what_is_around_its_tables(tmp_path, monkeypatch):
    document = tmp_path / "reliability.md"
    document.write_text(report.DOCUMENT.read_text())
    monkeypatch.setattr(report, "DOCUMENT", document)
    monkeypatch.setattr(report, "KEPT", tmp_path / "faults.json")
    report.keep("before", "abc", rows=[asdict(ROW)])
    rows = report.merged("now", [replace(ROW, lost=0)], NAMES)
    report.write(report.keep("now", "def", rows=rows))
    once = document.read_text()
    report.write(report.load())
    assert document.read_text() == once
    assert "7 of 50 → 0 of 50" in once
    assert once.startswith("# Reliability")
    assert "make fuzz" in once
    other = replace(ROW, name="flood")
    assert [each["name"] for each in report.merged("now", [other], NAMES)] == ["kill", "flood"]


def test_every_fault_is_in_the_table_once():
    assert sorted(NAMES) == sorted(FAULTS)
    assert {f"{part}-{way}" for part in ("stt", "llm", "tts") for way in ("refused", "silent", "401")} <= set(
        NAMES
    )


def samples(**gained):
    """Twenty samples, a half minute apart, after a first that is far off; figures grow as `gained` says."""
    rest = [
        {
            "minute": n / 2,
            **{name: 100 + gained.get(name, 0) * n / 20 + n % 2 for name in (*soak.LIMITS, "tasks")},
        }
        for n in range(20)
    ]
    return [{**rest[0], "rss_mb": 10.0, "fds": 900.0}, *rest]


def test_what_goes_up_and_down_is_flat_and_what_grows_is_not():
    assert all(row["flat"] for row in soak.judge(samples()).values())
    judged = soak.judge(samples(rss_mb=30, fds=4, tasks=20))
    assert {name for name, row in judged.items() if not row["flat"]} == {"rss_mb", "tasks"}
    assert judged["rss_mb"]["gained"] == pytest.approx(24, abs=1)  # four fifths of it are looked at


async def test_a_fault_for_seconds():
    """The whole of it: services, providers, server, callers, and what is stored."""
    told = []
    (row,) = await measure([replace(FAULTS["llm-500"], lasts_s=3.0)], report.ROOT, 2, told.append)
    assert not row.skipped
    assert (row.calls, row.kept, row.new, row.lost) == (2, 2, 3, 0)
    assert row.records >= 5 * 2 + 3 * 2
    assert row.answers_s is not None
    assert len(told) == 1


def test_a_soak_of_seconds():
    told = []
    figures = soak.measure(0.3, 3, told.append, services=False, every_s=3)
    assert figures["calls"]["made"] >= 3
    assert figures["calls"]["refused"] == figures["calls"]["dropped"] == 0
    assert len(figures["samples"]) == len(told) == 6
    assert all(each["rss_mb"] >= each["uss_mb"] > 0 for each in figures["samples"])
    assert "| descriptors |" in soak.table(figures)
    json.dumps(figures)
