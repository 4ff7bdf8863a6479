"""One simulated call: connects a client, performs its script and fills the report."""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit, urlunsplit

from calls.simulator import wire
from calls.simulator.clients import (
    CONNECT_TIMEOUT_S,
    GENERATIONS,
    PING_S,
    CallFailed,
    Incoming,
    PbxClient,
    stop,
    without_query,
)
from calls.simulator.outcome import CallReport, Dropped, Received
from calls.simulator.packets import Packets
from calls.simulator.playback import Playback
from calls.simulator.script import Caller, Microphone, Say, Step, WaitForAgent, awaits_reply

HANG_UP_REASON = "caller hung up"
PROGRESS_S = 1.0
DISCONNECT, SILENT = "disconnect", "silent"
HANG_UPS = (DISCONNECT, SILENT)
UNNOTICED_S = 120.0  # how long the server may take to notice a silent hang-up


@dataclass(frozen=True)
class Event:
    """Something that happened in a call: when, in ms from its start; what; and details as JSON values."""

    ms: float
    kind: str
    details: dict[str, Any]


def call_url(url: str, **query: str | None) -> str:
    """`url` with `query` added to its query string; names whose value is None are left out."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return url  # connecting to it will say what is wrong
    added = urlencode({name: value for name, value in query.items() if value is not None})
    return urlunsplit(parts._replace(query="&".join(filter(None, (parts.query, added)))))


async def run_call(
    speech: bytes | Sequence[Step],
    *,
    url: str,
    generation: str = "new",
    room_id: str | None = None,
    system_prompt: str | None = None,
    extensions: dict[str, Any] | None = None,
    frame_ms: int = 10,
    hold_s: float = 4.0,
    timeout_s: float = 120.0,
    hang_up: str = DISCONNECT,
    ping_s: float = PING_S,
    rate: int = wire.SAMPLE_RATE,
    packets: Packets | None = None,
    connects_within_s: float | None = CONNECT_TIMEOUT_S,
    on_event: Callable[[Event], None] | None = None,
) -> CallReport:
    """Make one call to `url` (its query string included) in real time and report on it.

    `speech` is either s16le mono 16 kHz, followed by silence until the agent has been quiet for `hold_s` (for
    at most `timeout_s`), or a script of steps. `generation` is one of `GENERATIONS`; `extensions` adds fields
    to `configure`. `hang_up` is one of `HANG_UPS`: "silent" sends no more audio and leaves the socket open,
    with a ping every `ping_s`, until the server closes it. `rate` is the sample rate of the agent's voice, in
    Hz, and with a bridge also of the caller's; the URL must ask for it. A bridge sends no `configure`.
    `packets` is the caller's network. The connection is waited for `connects_within_s`, None: without end.

    Failures are reported in `CallReport.failure`; speech without a reply counts as one if the caller waited
    for it (`hold_s` above 0). Nothing is raised but what `on_event` raises.
    """
    if isinstance(speech, bytes | bytearray):
        speech = [Say(bytes(speech)), WaitForAgent(quiet_s=hold_s, timeout_s=timeout_s, reply=False)]
    room_id = room_id or str(uuid.uuid4())
    configure = wire.configure(room_id, system_prompt, **(extensions or {}))
    client = partial(
        PbxClient, GENERATIONS[generation], url, ping_s=ping_s, rate=rate, within_s=connects_within_s
    )
    report = CallReport(without_query(url), generation, room_id)
    call = _Call(client, report, frame_ms, rate, on_event, packets=packets)
    return await call.run(configure, speech, silent=hang_up == SILENT)


class _Call:
    """The running call: routes the messages that the client reads, and fills the report."""

    def __init__(
        self,
        client: Callable[[Callable[[Incoming], None]], PbxClient],
        report: CallReport,
        frame_ms: int,
        rate: int,
        on_event: Callable[[Event], None] | None,
        *,
        packets: Packets | None,
    ) -> None:
        self._started = time.monotonic()
        self._packets = packets
        self._on_event = on_event
        self._client = client(self._receive)
        self._playback = Playback(self._started, rate)
        self._microphone = Microphone(self._started, frame_ms)
        self._report = report
        report.frames = self._client.frames
        self._caller = Caller(self._microphone, self._playback, self._client.command, self._emit_step)
        self._frame_ids: set[str] = set()

    async def run(
        self, configure: dict[str, Any], steps: Sequence[Step], *, silent: bool = False
    ) -> CallReport:
        """Make the call and return the finished report."""
        report, tasks = self._report, list[asyncio.Task[Any]]()
        report.awaits_reply = awaits_reply(steps)
        try:
            if self._client.generation.streams_at_once:
                tasks.append(asyncio.create_task(self._act(steps)))
            await self._client.connect(configure)
            report.configure_ms = self._ms()
            self._emit("socket_open", {"url": report.url})
            if not tasks:
                tasks.append(asyncio.create_task(self._act(steps)))
            tasks.append(asyncio.create_task(self._client.wait_closed()))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            report.said_all = self._caller.said_all
            if silent and not self._client.closed:
                await self._fall_silent()
            report.closed_by = "server" if self._client.closed else "caller"
        except CallFailed as error:
            report.failure = str(error)
        finally:
            try:
                await stop(tasks)
            finally:
                await self._client.hang_up(HANG_UP_REASON)
        self._finish()
        return report

    async def _fall_silent(self) -> None:
        """Hang up as RustPBX does: no more audio, the socket stays open. Wait until the server closes it."""
        self._emit("caller_falls_silent", {})
        began, pings = time.monotonic(), self._report.pings
        try:
            async with asyncio.timeout(UNNOTICED_S):
                await self._client.wait_closed()
        except TimeoutError as error:
            raise CallFailed(
                f"the server did not end the call within {UNNOTICED_S:.0f} s of silence"
            ) from error
        self._report.noticed_s = time.monotonic() - began
        self._report.pings_unheard = self._report.pings - pings

    async def _act(self, steps: Sequence[Step]) -> None:
        """Keep the microphone open while the script is performed."""
        # The microphone is opened first: the times of the caller's speech count from its opening.
        work = (self._microphone.stream(self._send), self._emit_progress())
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(each) for each in work]
        script = asyncio.create_task(self._caller.perform(steps))
        tasks.append(script)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await stop(tasks)
        self._report.in_vain = script.result()

    def _send(self, frame: bytes, due: float) -> None:
        for each in (frame,) if self._packets is None else self._packets(frame):
            self._client.stream(each, due)

    def _ms(self, at: float | None = None) -> float:
        return ((time.monotonic() if at is None else at) - self._started) * 1000

    def _emit(self, kind: str, details: dict[str, Any], ms: float | None = None) -> None:
        if self._on_event is not None:
            self._on_event(Event(self._ms() if ms is None else ms, kind, details))

    def _emit_step(self, step: str, seconds: float) -> None:
        self._emit(f"caller_{step}", {"seconds": round(seconds, 3)})

    async def _emit_progress(self) -> None:
        frames, due = self._client.frames, time.monotonic()
        while True:
            due += PROGRESS_S
            await asyncio.sleep(due - time.monotonic())
            messages = self._report.audio_messages
            self._emit(
                "progress",
                {"frames_sent": frames.sent, "frames_due": frames.due, "audio_messages": messages},
            )

    def _receive(self, incoming: Incoming) -> None:
        ms = self._ms(incoming.at)
        if incoming.data is None:
            self._report.websocket_pings += 1
        elif isinstance(incoming.data, str):
            self._read(ms, incoming.data)
        elif self._client.generation.plays_binary:
            self._play(ms, incoming.data)
        else:
            self._report.binary_ignored += 1

    def _read(self, ms: float, text: str) -> None:
        try:
            message = wire.read_message(text)
        except wire.Unreadable as error:
            dropped = Dropped.of(ms, str(error), text)
            self._report.drop(dropped)
            self._emit("dropped", {"reason": dropped.reason, "text": dropped.text}, ms)
            return
        match message["type"]:
            case "audio":
                self._play_message(ms, message)
            case "ping":
                self._report.pings += 1
            case _:
                self._note(ms, message)

    def _note(self, ms: float, message: dict[str, Any]) -> None:
        """Keep a message in the report, and its line in the conversation if it has one."""
        self._report.messages.append(Received(ms, message))
        details = {name: value for name, value in message.items() if name != "type"}
        if line := self._report.line_of(ms, message):
            self._report.conversation.append(line)
            details["speaker"] = line.speaker
        self._emit(message["type"], details, ms)

    def _play_message(self, ms: float, message: dict[str, Any]) -> None:
        if message["frame_id"] in self._frame_ids:
            self._report.repeated_frame_ids += 1
        self._frame_ids.add(message["frame_id"])
        fits = message["sample_rate"] == self._playback.rate and message["channels"] == 1
        self._play(ms, bytes(message["audio_data"]), fits)

    def _play(self, ms: float, pcm: bytes, fits: bool = True) -> None:
        """Hand audio to the phone; what is no 20 ms packet at its rate plays wrongly there and is counted."""
        self._report.audio_messages += 1
        cut_anew = self._client.generation.is_bridge  # RustPBX makes packets of whatever comes
        if not fits or len(pcm) % 2 or (len(pcm) != self._playback.packet_bytes and not cut_anew):
            self._report.misfit_audio += 1
        whole = pcm[: len(pcm) // 2 * 2]
        if whole and self._playback.hear(ms / 1000, whole):
            self._emit("agent_speaks", {}, ms)

    def _finish(self) -> None:
        report = self._report
        report.duration_s = self._ms() / 1000
        report.close_code, report.close_reason = self._client.close_code, self._client.close_reason
        report.talkspurts = self._playback.talkspurts
        report.caller_speech = self._microphone.spans
        report.pacing = self._playback.pacing()
        report.reply = self._playback.reply(report.duration_s)
        report.unplayed_s = max(0.0, self._playback.played - report.duration_s)
        report.failure = report.failure or report.find_failure()
