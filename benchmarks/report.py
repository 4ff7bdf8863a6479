"""Writes docs/performance.md and its plot from the measurements."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import prose, report_pages
from benchmarks.plot import Chart, page

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "performance.md"
PLOT = ROOT / "docs" / "img" / "performance.svg"

Point = dict[str, Any]
NAMES = {"ours": "this server", "baseline": "the usual way"}


def write(details: dict[str, Any]) -> None:
    """Write the document and its plot from the sections that details.json has."""
    figures = {name: section["figures"] for name, section in details.items()}
    parts = [prose.OPENING]
    curve: list[Point] = figures.get("curve", [])
    if curve:
        PLOT.parent.mkdir(parents=True, exist_ok=True)
        PLOT.write_text(_plot(curve))
        parts += [_headline(curve), "![The curves](img/performance.svg)\n", _curve(curve), _targets(curve)]
    for name, section in (
        ("servers", _servers),
        ("clients", _clients),
        ("ivr", _ivr),
        ("churn", _churn),
        ("coldstart", _coldstart),
        ("voice", _voice),
        ("hearing", _hearing),
        ("longcall", _longcall),
        ("pages", report_pages.section),
    ):
        if name in figures:
            parts.append(section(figures[name]))
    parts += [prose.METHOD, _machine(details)]
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text("\n".join(parts))


# --- The curve --------------------------------------------------------------------------------------------


def _of(points: Iterable[Point], side: str) -> list[Point]:
    return sorted((p for p in points if p["side"] == side), key=lambda p: p["calls"])


def _carried(points: Sequence[Point]) -> Point | None:
    """The point with the most calls that did not break; None if the first one broke."""
    last = None
    for each in points:
        if each["broken"]:
            break
        last = each
    return last


def _headline(curve: Sequence[Point]) -> str:
    sentences = []
    for side in ("ours", "baseline"):
        points = _of(curve, side)
        carried = _carried(points)
        broke = next((p for p in points if p["broken"]), None)
        most = f"carried {carried['calls']} calls at once" if carried else "carried no call"
        then = f" and broke at {broke['calls']} ({', '.join(broke['broken'])})" if broke else ""
        sentences.append(f"{NAMES[side].capitalize()} {most} on one core{then}.")
    if pair := _common(curve):
        ours, base = pair
        sentences.append(
            f"With {ours['calls']} calls, a call cost {ours['cpu_per_call_pct']:.2f} % of the core and "
            f"{ours['rss_per_call_mb']:.2f} MB here, {base['cpu_per_call_pct']:.2f} % and "
            f"{base['rss_per_call_mb']:.1f} MB the usual way."
        )
    return " ".join(sentences) + "\n"


def _common(curve: Sequence[Point]) -> tuple[Point, Point] | None:
    """The largest number of calls that both carried."""
    carried = {
        side: {p["calls"]: p for p in _of(curve, side) if not p["broken"]} for side in ("ours", "baseline")
    }
    both = carried["ours"].keys() & carried["baseline"].keys()
    return (carried["ours"][max(both)], carried["baseline"][max(both)]) if both else None


def _plot(curve: Sequence[Point]) -> str:
    def series(key: str, scale: Callable[[Point], float] = lambda _: 1.0) -> dict[str, list[Any]]:
        return {
            side: [
                (p["calls"], p[key] * scale(p)) for p in _of(curve, side) if p.get(key) is not None
            ]
            for side in ("ours", "baseline")
        }  # fmt: skip

    return page(
        [
            Chart("CPU, % of the core", series("cpu_pct"), linear=True, limit=100),
            Chart("Memory of all calls, MB", series("rss_per_call_mb", lambda p: p["calls"])),
            Chart("Event-loop lag p95, ms", series("loop_lag_p95_ms"), limit=50),
            Chart("Added turn latency p95, ms", series("added_turn_p95_ms")),
        ]
    )


def _curve(curve: Sequence[Point]) -> str:
    parts = ["## The curve\n"]
    for side in ("ours", "baseline"):
        points = _of(curve, side)
        server = points[0]["server"] if points else ""
        parts += [f"{NAMES[side].capitalize()}, under {server}:\n", _points_table(points)]
    ratios = _ratios(curve)
    return "\n".join(
        [*parts, *(["What the usual way costs, as a multiple of ours:\n", ratios] if ratios else [])]
    )


POINT_COLUMNS: tuple[tuple[str, Callable[[Point], Any]], ...] = (
    ("CPU a call, %", lambda p: p["cpu_per_call_pct"]),
    ("MB a call", lambda p: p["rss_per_call_mb"]),
    ("loop lag p50 / p95 / p99", lambda p: _join(p, "loop_lag_p50_ms", "loop_lag_p95_ms", "loop_lag_p99_ms")),
    ("frame delay p50 / p99", lambda p: _join(p, "frame_delay_p50_ms", "frame_delay_p99_ms")),
    ("pacing p99", lambda p: p["pacing_p99_ms"]),
    ("turn + p50 / p95", lambda p: _join(p, "added_turn_p50_ms", "added_turn_p95_ms")),
    ("barge-in", lambda p: p["bargein_ms"]),
    ("lost", lambda p: p["frames_lost"]),
    ("refused", lambda p: p["calls_refused"]),
    ("", lambda p: ", ".join([*p["broken"], *p["doubts"]])),
)


def _points_table(points: Sequence[Point], first: str = "calls") -> str:
    rows = []
    for each in points:
        if each.get("failed"):
            rows.append([each[first], *[""] * (len(POINT_COLUMNS) - 1), ", ".join(each["broken"])])
        else:
            rows.append([each[first], *(value(each) for _, value in POINT_COLUMNS)])
    return _table([first, *(name for name, _ in POINT_COLUMNS)], rows)


def _ratios(curve: Sequence[Point]) -> str:
    ours = {p["calls"]: p for p in _of(curve, "ours") if not p.get("failed")}
    rows = []
    for base in _of(curve, "baseline"):
        own = ours.get(base["calls"])
        if own is None or base.get("failed"):
            continue
        keys = ("cpu_per_call_pct", "rss_per_call_mb", "loop_lag_p95_ms", "added_turn_p95_ms")
        rows.append([base["calls"], *(_ratio(base[key], own[key]) for key in keys)])
    return _table(["calls", "CPU", "memory", "loop lag p95", "added turn p95"], rows) if rows else ""


def _targets(curve: Sequence[Point]) -> str:
    """The section with the project's targets, and whether this run met them."""
    ours = {p["calls"]: p for p in _of(curve, "ours") if not p.get("failed")}
    pair = _common(curve)
    at_50 = ours.get(50)
    carried = _carried(_of(curve, "ours"))
    rows: list[list[Any]] = []

    def row(target: str, value: float | None, limit: float, unit: str) -> None:
        rows.append([target, "–" if value is None else f"{_short(value)} {unit}", _met(value, limit)])

    if pair:
        own, base = pair
        cpu = own["cpu_per_call_pct"] / base["cpu_per_call_pct"]
        memory = own["rss_per_call_mb"] / base["rss_per_call_mb"]
        row(f"CPU a call, {own['calls']} calls: at most 0.2 of the usual way", round(cpu, 3), 0.2, "of it")
        most = _carried(_of(curve, "baseline"))
        if carried and most:
            cpu = carried["cpu_per_call_pct"] / most["cpu_per_call_pct"]
            target = (
                f"the same, {carried['calls']} calls here, {most['calls']} the usual way (what each carries)"
            )
            row(target, round(cpu, 3), 0.2, "of it")
        row(
            f"memory a call, {own['calls']} calls: at most 0.05 of the usual way",
            round(memory, 4), 0.05, "of it",
        )  # fmt: skip
    largest = carried["calls"] if carried else 0
    rows.append(["50 calls at once on one core", f"{largest} carried", "yes" if largest >= 50 else "**no**"])
    for name, key, limit, unit in (
        ("memory a call: at most 2 MB", "rss_per_call_mb", 2, "MB"),
        ("turn latency added, p95: at most 60 ms", "added_turn_p95_ms", 60, "ms"),
        ("loop lag p95: at most 20 ms", "loop_lag_p95_ms", 20, "ms"),
        ("pacing error p99: at most 10 ms", "pacing_p99_ms", 10, "ms"),
        ("barge-in, median: at most 100 ms", "bargein_ms", 100, "ms"),
    ):
        row(f"{name}, at 50 calls", at_50[key] if at_50 else None, limit, unit)
    return "## Targets\n\n" + _table(["target", "measured", "met"], rows)


# --- The rest ---------------------------------------------------------------------------------------------


def _servers(points: Sequence[Point]) -> str:
    named = [p | {"server and calls": f"{p['server']}, {p['calls']}"} for p in points]
    return f"## Three servers\n\n{prose.SERVERS}\n{_points_table(named, 'server and calls')}"


def _clients(points: Sequence[Point]) -> str:
    named = [p | {"clients and calls": f"{p['clients']}, {p['calls']}"} for p in points]
    table = _points_table(named, "clients and calls")
    return f"## RustPBX's clients\n\n{prose.CLIENTS}\n{table}"


def _ivr(measured: dict[str, Any]) -> str:
    rows = [
        [name, figures["asked"], figures["p50_ms"], figures["p99_ms"], figures["max_ms"]]
        for name, figures in (("a call's first", measured["first"]), ("a later one", measured["later"]))
    ]
    table = _table(["question", "asked", "p50, ms", "p99, ms", "longest, ms"], rows)
    return f"## RustPBX's questions\n\n{prose.IVR.format(calls=measured['calls'])}\n{table}"


def _churn(sides: Sequence[dict[str, Any]]) -> str:
    rows = []
    for side in sides:
        for phase in side["phases"]:
            was, now = phase["before"], phase["after"]
            rows.append(
                [
                    NAMES[side["side"]], f"{phase['calls']}, {phase['at_once']} at a time", phase["failed"],
                    _join(phase, "first_audio_p50_ms", "first_audio_p95_ms"), phase["growth_mb_per_1000"],
                    f"{was['rss_mb']:.1f} → {now['rss_mb']:.1f}",
                    *(
                        f"{was.get(key, '–')} → {now.get(key, '–')}"
                        for key in ("blocks", "tasks", "threads", "fds")
                    ),
                ]
            )  # fmt: skip
    columns = ["", "calls", "failed", "first audio p50 / p95", "MB per 1,000",
               "memory, MB", "blocks", "tasks", "threads", "descriptors"]  # fmt: skip
    return f"## Many short calls\n\n{prose.CHURN}\n{_table(columns, rows)}"


def _coldstart(starts: Sequence[dict[str, Any]]) -> str:
    rows = [
        [NAMES[s["side"]], s["providers"], s["ready_s"], s["first_call"]["first_audio_ms"],
         s["second_call"]["first_audio_ms"]]
        for s in starts
    ]  # fmt: skip
    columns = ["", "providers", "ready, s", "first call's first audio", "second call's"]
    return f"## Cold start\n\n{prose.COLDSTART}\n{_table(columns, rows)}"


def _voice(voice: dict[str, Any]) -> str:
    rows = [
        ["voice to voice: at most 900", voice["voice_to_voice_p50_ms"],
         _met(voice["voice_to_voice_p50_ms"], 900)],
        ["the slowest of twenty answers", voice["voice_to_voice_p95_ms"], ""],
        ["`turn_latency`: the same, from where detection places the end", voice["turn_latency_p50_ms"], ""],
        ["`stt`: from the detected end of speech to its words", voice["stt_p50_ms"], ""],
        ["`llm_ttft`: from there to the model's first token", voice["llm_ttft_p50_ms"], ""],
        ["`tts_ttfb`: from a sentence to its first audio", voice["tts_ttfb_p50_ms"], ""],
    ]  # fmt: skip
    text = prose.VOICE_TO_VOICE.format(questions=voice["questions"], answers=voice["answers"])
    table = _table(["", "ms", "met"], rows)
    return f"## Voice to voice with the embedded models\n\n{text}\n{table}"


# The names of the speakers of benchmarks/hearing.py in the document.
SPEAKERS = {
    "hibari": "the embedded voice",
    "slt": "flite slt, a woman",
    "rms": "flite rms, a man",
    "awb": "flite awb, a Scot",
    "kal": "flite kal, a man of 1999",
    "espeak": "espeak, a robot",
    "together": "all of these",
    "person": "a person",
}
PACKAGES = {"person": "asterisk-core-sounds-en-wav", "espeak": "espeak-ng"}  # where they are; else flite
HEARING = """The word errors of each embedded speech-to-text: words replaced, dropped or added, in percent of
the words said; compared in lower case, without punctuation and with numbers spelled out. Each utterance is
transcribed whole, with 0.3 s of silence before and 0.2 s after, without voice activity detection. Words that
the server would take for invented are left out.

- **Speakers.** Synthesised voices say the same {sentences} sentences, such as callers of a small business
  say. The person is an actress: {prompts} prompts that she recorded for Asterisk, at 8 kHz, so that even
  "clean" is a telephone's band.
- **Lines** (`calls/simulator/line.py`). *telephone*: 300 to 3400 Hz and µ-law; *gsm*: GSM 06.10
  instead; *noise*: the telephone with white noise so many dB below the speech; *quiet*: the telephone, 30 dB
  too quiet; *clipped*: overdriven by 20 dB, then the telephone. *slower* and *faster*: the telephone, at 0.85
  and 1.2 times the voice's own pace.
"""


def _hearing(hearing: dict[str, Any]) -> str:
    parts = ["## Hearing on the telephone\n", HEARING.format(**hearing)]
    if hearing["missing"]:
        names = (
            f"{SPEAKERS[each]} (Debian's package {PACKAGES.get(each, 'flite')})"
            for each in hearing["missing"]
        )
        parts.append(f"Not on this machine, and left out: {', '.join(names)}.\n")
    for model in hearing["models"]:
        rates = model["word_errors_pct"]
        conditions = list(dict.fromkeys(name for of in rates.values() for name in of))
        rows = [
            [name, *(f"{of[each]:.1f}" if each in of else None for each in conditions)]
            for speaker, name in SPEAKERS.items()
            if (of := rates.get(speaker))
        ]
        parts += [f"{model['name']}, word errors in %:\n", _table(["", *conditions], rows)]
    rows = [
        [m["name"], f"{m['cpu_times_length']:.3f}", _join(m, "cpu_p50_ms", "cpu_p95_ms"), m["memory_mb"],
         f"{m['utterances']}, {m['speech_s']} s"]
        for m in hearing["models"]
    ]  # fmt: skip
    columns = ["", "CPU, × of the length", "CPU an utterance p50 / p95", "memory, MB", "utterances"]
    costs = (
        "CPU is of one thread; memory is what loading the model and the longest utterance add to a process.\n"
    )
    return "\n".join([*parts, costs, _table(columns, rows)])


def _longcall(long: dict[str, Any]) -> str:
    rows = [
        [s["minute"], s["cpu_s_per_minute"], s["rss_mb"], s["tasks"], s["loop_lag_p95_ms"]]
        for s in long["steps"]
    ]
    lost = long["steps"][-1].get("frames_lost", 0)
    columns = ["up to minute", "CPU seconds a minute of call", "memory, MB", "tasks", "loop lag p95"]
    text = prose.LONGCALL.format(minutes=long["minutes"], speed=long["speed"])
    return f"## A long call\n\n{text}\n{_table(columns, rows)}\nFrames lost: {lost}.\n"


def _machine(details: dict[str, Any]) -> str:
    parts = ["## The machine\n"]
    days: dict[str, list[str]] = {}
    for name, section in details.items():
        about = section["machine"]
        packages = ", ".join(f"{name} {number}" for name, number in about["packages"].items())
        cores = f"{about['cores']}{' virtual' if about['virtual'] else ''} cores"
        line = (
            f"{section['day']}: {about['cpu']}, {cores}, "
            f"{about['memory_gb']} GB, {about['system']}, Python {about['python']}; {packages}"
        )
        days.setdefault(line, []).append(name)
    parts += [f"- {', '.join(names)} on {line}." for line, names in days.items()]
    return "\n".join([*parts, ""])


# --- Words and numbers ------------------------------------------------------------------------------------


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [_row(columns), _row(["---"] * len(columns)), *(_row([_short(v) for v in row]) for row in rows)]
    return "\n".join([*lines, ""])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _short(value: Any) -> str:
    """A number with its significant digits; – for None."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
    return str(value)


def _join(point: Point, *keys: str) -> str:
    return " / ".join(_short(point.get(key)) for key in keys)


def _ratio(theirs: float | None, own: float | None) -> str:
    if theirs is None or own is None or own <= 0:
        return "–"
    return f"{theirs / own:.1f} ×" if theirs / own < 100 else "over 100 ×"


def _met(value: float | None, limit: float) -> str:
    return "–" if value is None else "yes" if value <= limit else "**no**"
