"""The benchmark: its definitions and arithmetic, what it sends, its page, and a run of seconds."""

import random
from xml.etree import ElementTree

import pytest

from benchmarks import (
    curve,
    figures,
    hearing,
    pages,
    plot,
    point,
    report,
    report_pages,
    speech,
    store,
    websocket,
)
from benchmarks.figures import FIXED_TURN_S, VAD_START_S, Utterance, judge
from calls.simulator.words import word_errors

FINE = {
    "pacing_p99_ms": 20.0,
    "loop_lag_p95_ms": 50.0,
    "frames_lost": 0,
    "calls_refused": 0,
    "calls_dropped": 0,
    "turns": 50,
    "turns_unanswered": 1,
}


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, None), ([7], 0.99, 7), (range(1, 101), 0.95, 95), (range(1, 101), 0.5, 50), ([3, 1, 2], 1, 3)],
)
def test_percentile(values, share, expected):
    assert figures.percentile(values, share) == expected


def test_a_stall_makes_every_tick_in_it_late():
    assert figures.missed_ticks(10.0, 10.035, 0.01) == pytest.approx([0.035, 0.025, 0.015, 0.005])
    assert figures.missed_ticks(10.0, 9.99, 0.01) == []


@pytest.mark.parametrize(
    ("worse", "reason"),
    [
        ({"pacing_p99_ms": 20.1}, "pacing"),
        ({"loop_lag_p95_ms": 50.1}, "loop lag"),
        ({"frames_lost": 1}, "frames lost"),
        ({"calls_refused": 1}, "calls refused"),
        ({"calls_dropped": 1}, "calls dropped"),
        ({"turns_unanswered": 2}, "no answer"),
        ({"failed": True}, "the server did not answer"),
    ],
)
def test_what_breaks_a_server(worse, reason):
    assert figures.broken(FINE) == []
    assert figures.broken(FINE | worse) == [reason]


def test_medians_keep_the_worst_loss():
    runs = [FINE | {"calls": 10, "server": "daphne", "pacing_p99_ms": p, "frames_lost": n}
            for p, n in ((9.0, 0), (1.0, 3), (2.0, 0))]  # fmt: skip
    merged = figures.medians([*runs, runs[0] | {"pacing_p99_ms": None}])
    assert (merged["pacing_p99_ms"], merged["frames_lost"], merged["calls"]) == (2.0, 3, 10)
    assert merged["runs"] == 4


class TestOneCall:
    """A question at 10 s to 12 s, answered; a second at 20 s to 22 s that interrupts, and so on."""

    said = [Utterance(10, 12), Utterance(20, 22), Utterance(30, 32)]

    def arrivals(self, begin, end, late=()):
        """Messages of 20 ms from `begin` to `end`, some `late` by so many seconds."""
        times = [begin + 0.02 * k for k in range(round((end - begin) / 0.02))]
        for index, seconds in late:
            times[index] += seconds
        return times

    def test_an_answer(self):
        first = 12 + FIXED_TURN_S + 0.05
        outcome = judge(self.said, self.arrivals(first, 15), 0.02, (9, 19))
        assert outcome.added_turn == pytest.approx([0.05])
        assert (outcome.turns, outcome.unanswered, outcome.barge_in) == (1, 0, [])
        assert max(outcome.pacing) == pytest.approx(0, abs=1e-9)

    def test_a_late_message_counts_in_both_its_gaps(self):
        arrivals = self.arrivals(12 + FIXED_TURN_S, 15, late=[(50, 0.01)])
        outcome = judge(self.said, arrivals, 0.02, (9, 19))
        assert sorted(outcome.pacing)[-2:] == pytest.approx([0.01, 0.01])

    def test_a_gap_counts_however_long(self):
        arrivals = [*self.arrivals(13, 14), *self.arrivals(16, 17)]
        assert max(judge(self.said, arrivals, 0.02, (9, 19)).pacing) == pytest.approx(2.0)

    def test_silence_is_no_answer(self):
        outcome = judge(self.said, [], 0.02, (9, 40))
        assert (outcome.turns, outcome.unanswered) == (2, 2)

    def test_what_was_left_of_an_interrupted_reply_is_no_answer(self):
        for left in (22.2, 22.7):
            outcome = judge(self.said, self.arrivals(19, left), 0.02, (21, 40))
            assert (outcome.turns, outcome.unanswered) == (1, 1)
        arrivals = [*self.arrivals(19, 22.6), *self.arrivals(22 + FIXED_TURN_S, 25)]
        assert judge(self.said, arrivals, 0.02, (21, 40)).added_turn == pytest.approx([0.0])

    def test_an_interruption(self):
        until = 20 + VAD_START_S + 0.08
        outcome = judge(self.said, self.arrivals(13, until), 0.02, (9, 25))
        assert outcome.barge_in == pytest.approx([0.06])  # the last message began 20 ms before

    def test_voice_that_was_sent_ahead_counts_until_it_is_heard(self):
        """Five messages come at once, then each 20 ms: an interruption costs those 80 ms more."""
        until = 20 + VAD_START_S + 0.08
        ahead = [13.0] * 5 + [13.02 + 0.02 * k for k in range(round((until - 13.02) / 0.02))]
        outcome = judge(self.said, ahead, 0.02, (9, 25), buffers=True)
        assert outcome.barge_in == pytest.approx([0.06 + 0.08])
        assert max(outcome.pacing) == pytest.approx(0, abs=1e-9)
        assert judge(self.said, ahead, 0.02, (9, 25)).barge_in == pytest.approx([0.06])

    def test_what_begins_outside_the_window_does_not_count(self):
        outcome = judge(self.said, self.arrivals(13, 20.3), 0.02, (12.5, 20.5))
        assert (outcome.turns, outcome.barge_in) == (0, [])


@pytest.mark.parametrize(("rate", "frame_s"), [(16_000, 0.01), (8_000, 0.02)])
def test_a_frame_has_320_bytes_of_10_ms_or_of_20(rate, frame_s):
    for script, usual in zip(speech.scripts(rate, frame_s), speech.scripts(), strict=True):
        assert script.size == len(websocket.frame_header(websocket.BINARY, 320)) + 320
        assert script.seconds == pytest.approx(usual.seconds, abs=0.02)
        assert script.said == usual.said
        assert script.entry_before(1, 1.0) * frame_s == pytest.approx(script.said[1].onset - 1, abs=frame_s)


def test_frames_carry_the_speech_and_calls_enter_in_silence():
    for script in speech.scripts():
        header = len(websocket.frame_header(websocket.BINARY, 320))
        frames = [script.frames[i * script.size : (i + 1) * script.size] for i in range(script.count)]
        loud = [max(abs(s) for s in samples(frame[header:])) > 500 for frame in frames]
        spoken = [i for i, is_loud in enumerate(loud) if is_loud]
        for index in spoken:
            assert any(one.onset - 0.01 <= index * 0.01 <= one.end for one in script.said)
        dice = random.Random(1)
        for _ in range(200):
            entry = script.entry(dice) * 0.01
            assert not any(one.onset - 0.4 <= entry <= one.end + 0.4 for one in script.said)


def samples(masked):
    mask = websocket.MASK
    pcm = bytes(byte ^ mask[i & 3] for i, byte in enumerate(masked))
    return memoryview(pcm).cast("h")


def test_the_utterances_of_a_call_follow_its_entry():
    script = speech.scripts()[0]
    entry = script.entry_before(1, 3.0)
    said = script.said_from(entry, 100.0, 100.0 + script.seconds)
    assert said[0].onset == pytest.approx(103.0, abs=0.01)
    assert len(said) == len(script.said)


def test_the_parser_takes_bytes_as_they_come():
    payloads = [b"a" * 5, b"b" * 300, b"c" * 70_000]
    stream = b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\n"
    stream += bytes([0x81, 5]) + payloads[0]
    stream += bytes([0x82, 126]) + (300).to_bytes(2, "big") + payloads[1]
    stream += bytes([0x81, 127]) + (70_000).to_bytes(8, "big") + payloads[2]
    for step in (1, 7, len(stream)):
        parser = websocket.Parser()
        got = [f for i in range(0, len(stream), step) for f in parser.feed(stream[i : i + step])]
        assert got == [(1, payloads[0]), (2, payloads[1]), (1, payloads[2])]
    with pytest.raises(websocket.Refused, match="403 Forbidden"):
        list(websocket.Parser().feed(b"HTTP/1.1 403 Forbidden\r\n\r\n"))


def parsed(svg):
    return ElementTree.fromstring(svg)  # noqa: S314  our own


def test_the_plot_is_a_picture_with_every_dot():
    chart = plot.Chart("Lag", {"ours": [(1, 2.0), (100, 9.0)], "baseline": [(1, 0.0)]}, limit=50)
    root = parsed(plot.page([chart, plot.Chart("Empty", {}, linear=True)]))
    circles = [e for e in root.iter() if e.tag.endswith("circle") and e.get("r") == "3"]
    assert len(circles) == 3
    assert all(
        0 <= float(c.get("cx")) <= plot.WIDTH and 0 <= float(c.get("cy")) <= plot.HEIGHT for c in circles
    )


@pytest.fixture
def run():
    """A run of seconds of our real server: two calls, one of them interrupting."""
    options = {"ramp_s": 0.1, "settle_s": 1.0, "warm_up_s": 1.0}
    return curve.judged(point.measure("ours", "daphne", 2, 8.0, **options))


def test_two_calls_over_the_bridge():
    options = {"ramp_s": 0.1, "settle_s": 1.0, "warm_up_s": 1.0, "clients": "bridge"}
    bridge = curve.judged(point.measure("ours", "daphne", 2, 8.0, **options))
    assert (bridge["calls_refused"], bridge["calls_dropped"], bridge["errors"]) == (0, 0, [])
    assert bridge["frames_lost"] == 0
    assert bridge["turns"] >= 1
    assert bridge["turns_unanswered"] == 0
    assert bridge["bargeins"] >= 1


def test_two_calls_for_seconds_and_the_page_about_them(run, tmp_path, monkeypatch):
    assert (run["frames_lost"], run["calls_refused"], run["calls_dropped"], run["errors"]) == (0, 0, 0, [])
    assert run["turns"] >= 1
    assert run["bargeins"] >= 1
    assert 0 < run["cpu_per_call_pct"] < 100
    assert run["loop_lag_p95_ms"] > 0
    monkeypatch.setattr(store, "RESULTS", tmp_path / "results.json")
    monkeypatch.setattr(store, "DETAILS", tmp_path / "details.json")
    monkeypatch.setattr(report, "DOCUMENT", tmp_path / "performance.md")
    monkeypatch.setattr(report, "PLOT", tmp_path / "img" / "performance.svg")
    slow = run | {"side": "baseline", "server": "uvicorn", "cpu_per_call_pct": 2 * run["cpu_per_call_pct"]}
    failed = {"side": "baseline", "server": "uvicorn", "calls": 50, "clients": "free", "failed": True}
    points = curve.merged([run, run, slow, curve.judged(failed)])
    store.write_results(points)
    assert "cpu_per_call_pct" in store.RESULTS.read_text()
    report.write(store.keep(curve=points))
    page = report.DOCUMENT.read_text()
    assert "| 2 | 2.0 × |" in page
    assert "the server did not answer" in page
    assert parsed(report.PLOT.read_text()).tag.endswith("svg")


@pytest.mark.parametrize(
    ("said", "heard", "expected"),
    [
        ("Yes please.", "yes, please", (0, 2)),
        ("The number is forty seven.", "The number is 47", (0, 5)),
        ("One thousand people", "1,000 people", (0, 3)),
        ("I don’t know", "I don't", (1, 3)),
        ("No.", "Oh no, no", (2, 1)),
        ("Yes please.", "", (2, 2)),
    ],
)
def test_words_heard_wrong_are_counted(said, heard, expected):
    assert word_errors(said, heard) == expected


def test_what_is_heard_is_counted_by_speaker_and_condition():
    """Whoever hears "yes please" in everything is wrong about half of it, or all, or nothing."""
    yes, no = hearing.Utterance("Yes please.", bytes(3200)), hearing.Utterance("No thank.", bytes(3200))
    found = {"slt": {1.0: [yes, no], hearing.FAST: [no]}, "person": {1.0: [yes]}}
    figures = hearing.figures(lambda _pcm: "yes please", found)
    rates = figures["word_errors_pct"]
    assert (rates["slt"]["gsm"], rates["slt"]["faster"], rates["person"]["gsm"]) == (50, 100, 0)
    assert "slower" not in rates["slt"]
    assert "faster" not in rates["person"]
    assert rates["together"] == rates["slt"]
    assert figures["utterances"] == 3 * 7 + 1


def test_the_page_about_hearing_says_who_was_missing():
    model = {
        "name": "Moonshine tiny",
        "word_errors_pct": {"slt": {"clean": 5.04, "faster": 12.5}, "person": {"clean": 3.0}},
        "utterances": 3, "speech_s": 9, "cpu_times_length": 0.0244, "cpu_p50_ms": 61.2, "cpu_p95_ms": 120.0,
        "memory_mb": 110.4,
    }  # fmt: skip
    section = {"sentences": 24, "prompts": 1, "missing": ["espeak"], "models": [model]}
    page = report._hearing(section)
    assert page.startswith("## Hearing on the telephone")
    assert "|  | clean | faster |" in page
    assert "| flite slt, a woman | 5.0 | 12.5 |" in page
    assert "| a person | 3.0 | – |" in page
    assert "| Moonshine tiny | 0.024 | 61.2 / 120 | 110 | 3, 9 s |" in page
    assert "left out: espeak, a robot (Debian's package espeak-ng)." in page


def test_the_pages_are_measured_on_a_database_filled_for_it():
    (measured,) = pages.measure(3000, ["sqlite"], requests=1)
    assert measured["turns"] >= 2000
    assert measured["longest"] == 1500
    assert all(page["kb"] >= 2 and page["p50_ms"] <= page["max_ms"] for page in measured["pages"])
    section = report_pages.section([measured, measured | {"database": "postgresql"}])
    assert "|  | SQLite p50 / longest | PostgreSQL p50 / longest |" in section
    assert section.count("| a call of 1500 turns |") == 1
