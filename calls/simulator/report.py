"""The output of `simulatecall`: text for people, or JSON lines for programs."""

import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import Any, Protocol

from calls.simulator.call import Event
from calls.simulator.outcome import CallReport

ERASE_LINE = "\r\x1b[K"
UNSAFE_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")  # control characters, lone surrogates, line separators
# The line that is shown for an event, by its kind.
SHOWN = {
    "socket_open": "(connected to {url})",
    "configured": "(call {call_id})",
    "caller_says": "(caller speaks for {seconds:.1f} s)",
    "caller_listens": "(caller listens until the agent is quiet for {seconds:g} s)",
    "caller_falls_silent": "(caller has hung up: no more audio, the socket stays open)",
    "agent_speaks": "(agent's voice)",
    "error": "error {code}: {message}",
    "dropped": "a real client drops this: {reason}",
}


class Output(Protocol):
    """Where the output goes: a text file, or Django's wrapper of one."""

    def write(self, text: str, /) -> object:
        """Write `text`."""

    def flush(self) -> None:
        """Write out what is buffered."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""


class JsonLines:
    """Writes each event and summary as a JSON object on a line of its own, in ASCII for any locale."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def event(self, call: int, event: Event) -> None:
        """Write what happened in call number `call`."""
        head = {"event": event.kind, "ms": round(event.ms, 1), "call": call}
        self._write({**head, **event.details, **head})  # the head comes first, and details cannot replace it

    def call(self, call: int, report: CallReport) -> None:
        """Write one of several calls' summary."""
        self._write(
            {"event": "call", "ms": round(report.duration_s * 1000, 1), "call": call, **report.summary()}
        )

    def summary(self, reports: Sequence[CallReport]) -> None:
        """Write the last line: the summary of the call, or the totals of several."""
        longest_ms = round(max(report.duration_s for report in reports) * 1000, 1)
        figures = reports[0].summary() if len(reports) == 1 else totals(reports)
        self._write({"event": "summary", "ms": longest_ms, **figures})

    def _write(self, line: dict[str, Any]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


class Console:
    """Shows a call to a person. On a terminal, partial transcripts and progress overwrite one status line."""

    def __init__(self, out: Output, conversation: bool = True) -> None:
        """Without `conversation` only calls' results are shown."""
        self._out = out
        self._conversation = conversation
        self._terminal = out.isatty()
        self._encoding = getattr(out, "encoding", None) or "utf-8"

    def event(self, call: int, event: Event) -> None:
        """Show what happened in the call."""
        if not self._conversation:
            return
        if text := _shown(event):
            self._line(f"{event.ms / 1000:7.2f} s  {text}")
        elif self._terminal and (text := _status(event)):
            self._put(ERASE_LINE + fit(clean(f"{event.ms / 1000:7.2f} s  {text}"), _columns() - 1))

    def call(self, call: int, report: CallReport) -> None:
        """Show one of several calls' result in a line."""
        figures = report.summary()
        self._line(
            f"call {call}: {report.failure or 'ok'}; {report.duration_s:.1f} s, "
            f"frames {report.frames.sent}/{report.frames.due}, {_lag(figures)}, "
            f"first audio {_ms(report.first_audio_ms)}, replies {_list_ms(report.reply_latencies_ms)}, "
            f"turns {len(report.turns)}, "
            f"errors {len(figures['errors'])}, dropped {figures['dropped_messages']}"
        )

    def summary(self, reports: Sequence[CallReport]) -> None:
        """Show the summary of the call, or the totals of several; nothing of one that never connected."""
        if len(reports) == 1 and reports[0].configure_ms is None:
            return
        self._line("")
        for line in _summary_lines(reports[0]) if len(reports) == 1 else _total_lines(totals(reports)):
            self._line(line)

    def _line(self, text: str) -> None:
        self._put((ERASE_LINE if self._terminal else "") + clean(text) + "\n")

    def _put(self, text: str) -> None:
        self._out.write(text.encode(self._encoding, "replace").decode(self._encoding))
        self._out.flush()


def clean(text: str) -> str:
    """`text` on one line, with control characters replaced by spaces."""
    return "".join(" " if unicodedata.category(c) in UNSAFE_CATEGORIES else c for c in text)


def fit(text: str, columns: int) -> str:
    """The end of `text` that fits `columns` of a terminal (East Asian wide characters take two)."""
    width, start = 0, len(text)
    for start in range(len(text), 0, -1):
        width += 2 if unicodedata.east_asian_width(text[start - 1]) in "WF" else 1
        if width > columns:
            return text[start:]
    return text


def totals(reports: Sequence[CallReport]) -> dict[str, Any]:
    """The figures of several calls together, as JSON values."""
    lags = [lag for report in reports for lag in report.frames.lags_ms]
    firsts = [report.first_audio_ms for report in reports if report.first_audio_ms is not None]
    replies = [latency for report in reports for latency in report.reply_latencies_ms]
    errors = Counter(
        f"{e.get('code') or ''} {e['message']}" for report in reports for e in report.of("error")
    )
    pacings = [report.pacing for report in reports if report.pacing]
    return {
        "calls": len(reports),
        "failed": sum(1 for report in reports if report.failure),
        "failure": next((report.failure for report in reports if report.failure), None),
        "frames_due": sum(report.frames.due for report in reports),
        "frames_sent": sum(report.frames.sent for report in reports),
        "lag_mean_ms": _figure(fmean, lags),
        "lag_max_ms": _figure(max, lags),
        "pings": sum(report.pings for report in reports),
        "first_audio_median_ms": _figure(median, firsts),
        "first_audio_max_ms": _figure(max, firsts),
        "reply_latency_median_ms": _figure(median, replies),
        "reply_latency_max_ms": _figure(max, replies),
        "audio_messages": sum(report.audio_messages for report in reports),
        "gap_p99_max_ms": _figure(max, [pacing.gap_p99_ms for pacing in pacings]),
        "turns": sum(len(report.turns) for report in reports),
        "errors": errors.total(),
        "errors_by_message": dict(errors.most_common()),
        "dropped_messages": sum(report.dropped_count for report in reports),
    }


def _figure(of: Callable[[list[float]], float], values: list[float]) -> float | None:
    return round(of(values), 1) if values else None


def _shown(event: Event) -> str | None:
    """The line to show for an event; None if it is not shown."""
    if "speaker" in event.details:
        return f"{event.details['speaker']:>6}: {event.details['text']}"
    line = SHOWN.get(event.kind)
    return line and line.format_map({"code": "without a code", **event.details})


def _status(event: Event) -> str | None:
    match event.kind:
        case "transcription":
            return f"caller… {event.details['text']}"
        case "progress":
            figures = event.details
            frames = f"{figures['frames_sent']} of {figures['frames_due']} frames sent"
            return f"{frames}, {figures['audio_messages']} audio messages received"
    return None


def _lag(figures: dict[str, Any]) -> str:
    return f"lag {_ms(figures['lag_mean_ms'])} mean, {_ms(figures['lag_max_ms'])} max"


def _summary_lines(report: CallReport) -> list[str]:
    figures = report.summary()
    lines = [
        f"Call         {report.generation} client, {report.duration_s:.1f} s, ended by {report.closed_by}",
        f"Frames       {report.frames.sent} sent of {report.frames.due}, "
        f"{report.frames.dropped} dropped before the connection; {_lag(figures)}",
        f"Pings        {report.pings}, and {report.websocket_pings} of the WebSocket",
        f"First audio  {_ms(report.first_audio_ms)} after configure; "
        f"{_list_ms(report.reply_latencies_ms)} after the end of speech",
        f"Audio        {report.audio_messages} messages, {report.audio_s:.1f} s; {report.misfit_audio} not a "
        f"20 ms packet, {report.repeated_frame_ids} repeated ids, {report.binary_ignored} binary ignored",
    ]
    if pacing := report.pacing:
        lines.append(
            f"Pacing       gap {pacing.gap_p50_ms:.1f} ms p50, {pacing.gap_p99_ms:.1f} p99, "
            f"{pacing.gap_max_ms:.1f} max, drift {pacing.drift_ms:.1f} ms in {pacing.longest_s:.1f} s, "
            f"{pacing.ahead_ms:.1f} ms ahead at most"
        )
    if report.noticed_s is not None:
        lines.append(
            f"Hang-up      noticed after {report.noticed_s:.1f} s; {report.pings_unheard} pings meanwhile"
        )
    lines.append(f"Turns        {figures['turns']}")
    lines += [f"Error        {each.get('code') or ''} {each['message']}" for each in figures["errors"]]
    lines += [f"In vain      {step}" for step in figures["waited_in_vain"]]
    lines.append(f"Dropped      {report.dropped_count} messages that a real client would not have taken")
    lines += [f"             {each.ms / 1000:.2f} s: {each.reason}: {each.text}" for each in report.dropped]
    return lines


def _total_lines(total: dict[str, Any]) -> list[str]:
    firsts = f"{_ms(total['first_audio_median_ms'])} median, {_ms(total['first_audio_max_ms'])} max"
    replies = f"{_ms(total['reply_latency_median_ms'])} median, {_ms(total['reply_latency_max_ms'])} max"
    return [
        f"Calls        {total['calls']}, {total['failed']} failed",
        f"Frames       {total['frames_sent']} sent of {total['frames_due']}; {_lag(total)}",
        f"First audio  {firsts} after configure",
        f"Replies      {replies} after the end of speech",
        f"Audio        {total['audio_messages']} messages; worst gap {_ms(total['gap_p99_max_ms'])} p99",
        f"Turns        {total['turns']}",
        f"Errors       {total['errors']}",
        *(f"             {count} times {error}" for error, count in total["errors_by_message"].items()),
        f"Dropped      {total['dropped_messages']} messages that a real client would not have taken",
    ]


def _ms(value: float | None) -> str:
    return "none" if value is None else f"{value:.1f} ms"


def _list_ms(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0f}" for value in values) + " ms" if values else "none"


def _columns() -> int:
    return shutil.get_terminal_size().columns
