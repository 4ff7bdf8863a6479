"""`manage.py simulatecall`: call a voice agent from the command line, as RustPBX would."""

import argparse
import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from calls.simulator import GENERATIONS, CallReport, Say, Send, Step, WaitForAgent, call_url, run_call
from calls.simulator.audio import read_wav, speech_spans, write_wav
from calls.simulator.call import DISCONNECT, HANG_UPS
from calls.simulator.clients import PING_S
from calls.simulator.line import LINES
from calls.simulator.report import Console, JsonLines
from calls.simulator.speaker import play
from calls.simulator.voices import EMBEDDED, VOICES, speak
from calls.simulator.wire import BRIDGE_RATE, BYTES_PER_SECOND, SAMPLE_RATE, key

GREETING_TIMEOUT_S = 15.0
GREETING_QUIET_S = 0.5


class Command(BaseCommand):
    """Streams speech as a client generation would, tells what happens, and measures it."""

    help = (
        "Call a voice agent as RustPBX would, with WAV files or spoken text as the caller's speech, and "
        "measure the call. With several, each waits for the reply to the one before. "
        "The status is 0 only if the server took the call, heard the caller and answered without a failure."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options."""
        add = parser.add_argument
        add(
            "speech",
            type=Path,
            nargs="*",
            metavar="SPEECH.wav",
            help="what the caller says; any rate, mono or stereo",
        )
        add("--say", action="append", default=[], metavar="TEXT", help="have a voice say it, after the files")
        add(
            "--voice",
            choices=VOICES,
            default=EMBEDDED,
            help="whose voice; all but hibari need Debian's flite or espeak-ng (default: %(default)s)",
        )
        add(
            "--line",
            choices=list(LINES),
            default="clean",
            help="what the voice goes through: an ordinary telephone, a mobile one (gsm), one with noise 20 "
            "or 10 dB below the voice, a voice 30 dB too quiet, an overdriven one (default: %(default)s)",
        )
        add(
            "--url",
            default=f"ws://127.0.0.1:{settings.PORT}/ws/rustpbx",
            help="the agent's address (default: %(default)s)",
        )
        add(
            "--client",
            choices=list(GENERATIONS),
            default="new",
            help="whose habits to imitate: seed (one frame for a message), new (bursts each 100 ms), free "
            "(steady), json (steady, audio as JSON), bridge (today's RustPBX: audio and keys, nothing else); "
            "default: %(default)s",
        )
        add("--profile", help="the prompt profile to ask for")
        add("--prompt", help="the system prompt of `configure`")
        add("--token", help="the token that lets other machines connect")
        add("--caller", help="the caller's number")
        add(
            "--out",
            type=Path,
            metavar="REPLY.wav",
            help="write what the phone played (-1, -2 … for more calls)",
        )
        add(
            "--listen",
            action="store_true",
            help="play what the (first) phone played on this machine's speaker; without one, say where it is",
        )
        add("--calls", type=_count, default=1, help="make so many calls at once (default: 1)")
        add(
            "--hold",
            type=_seconds,
            default=4.0,
            help="hang up when the agent was quiet for so many seconds; 0 does not wait for a reply "
            "(default: %(default)g)",
        )
        add(
            "--timeout", type=_seconds, default=120.0, help="hang up so many seconds after the speech at most"
        )
        add("--after-greeting", action="store_true", help="let the agent greet before speaking")
        add("--frame-ms", type=int, choices=(10, 20), default=10, help="the length of a frame (default: 10)")
        add(
            "--hang-up",
            choices=HANG_UPS,
            default=DISCONNECT,
            help="how to end: say so and close the socket, or, as RustPBX does, send no more audio, leave "
            "the socket open and go on to ping until the server closes it (silent); default: %(default)s",
        )
        add(
            "--ping",
            type=_ping_seconds,
            default=PING_S,
            metavar="SECONDS",
            help="the time between the client's own pings (default: %(default)g)",
        )
        add(
            "--rate",
            type=int,
            choices=(8000, SAMPLE_RATE, 24000, 48000),
            help="of the agent's voice, in Hz: 8000 asks for that (?rate=8000); a voice at another rate "
            "fails the call (default: 16000; a bridge has its rate both ways, 8000 by default)",
        )
        add("--keys", default="", help="keys to press after the speech, such as 12#; of a bridge only")
        add("--binary", action="store_true", help="ask for binary audio (?audio=binary)")
        add("--json", action="store_true", help="print one JSON object a line")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the calls. Raises `CommandError` if one fails."""
        steps = _script(options)
        out: Path | None = options["out"]
        if options["listen"] and out is None:
            out = settings.DATA_DIR / "reply.wav"
        if out is not None and (out.is_dir() or not out.parent.is_dir()):
            raise CommandError(
                f"{out} is a folder, not a file" if out.is_dir() else f"{out.parent} is no folder to write to"
            )
        self.stdout.ending = ""  # the views end their lines themselves
        view = JsonLines(self.stdout) if options["json"] else Console(self.stdout, options["calls"] == 1)
        try:
            reports = asyncio.run(_make_calls(steps, view, options))
            view.summary(reports)
        except KeyboardInterrupt:
            raise CommandError("interrupted", returncode=130) from None
        except BrokenPipeError:
            # Whoever read the output has left; the interpreter's last flush must not complain about that.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise CommandError("the output was closed") from None
        written = _write_replies(out, reports) if out is not None else []
        if options["listen"]:
            self._play(written[0], reports[0], as_json=options["json"])
        if failed := [report.failure for report in reports if report.failure]:
            counted = (
                "the call failed" if len(reports) == 1 else f"{len(failed)} of {len(reports)} calls failed"
            )
            raise CommandError(f"{counted}: {failed[0]}")

    def _play(self, path: Path, report: CallReport, *, as_json: bool) -> None:
        """Let the agent be heard, or say where it can be."""
        player = play(path, len(report.reply) / BYTES_PER_SECOND)
        told = (
            f"Played by {player}; it is in {path}" if player else f"No speaker here: the reply is in {path}"
        )
        # Programs read the standard output, line by line.
        (self.stderr if as_json else self.stdout).write(f"{told}\n")


async def _make_calls(
    steps: list[Step], view: Console | JsonLines, options: dict[str, Any]
) -> list[CallReport]:
    """Make all calls at once, each told of by its number from 1 on."""

    is_bridge = options["client"] == "bridge"
    rate = options["rate"] or (BRIDGE_RATE if is_bridge else SAMPLE_RATE)

    async def make(number: int) -> CallReport:
        report = await run_call(
            steps,
            url=call_url(
                options["url"],
                profile=options["profile"],
                token=options["token"],
                caller=options["caller"],
                audio="binary" if options["binary"] else None,
                client="bridge" if is_bridge else None,
                rate=str(rate) if is_bridge or rate != SAMPLE_RATE else None,
            ),
            generation=options["client"],
            system_prompt=options["prompt"],
            frame_ms=options["frame_ms"],
            hang_up=options["hang_up"],
            ping_s=options["ping"],
            rate=rate,
            on_event=partial(view.event, number),
        )
        if options["calls"] > 1:
            view.call(number, report)
        return report

    return list(await asyncio.gather(*(make(number) for number in range(1, options["calls"] + 1))))


def _script(options: dict[str, Any]) -> list[Step]:
    """Greeting or not, each speech and its reply, and listening.

    Raises `CommandError` if there is no speech, or if it can't be read or spoken.
    """
    line = LINES[options["line"]]
    try:
        speeches = [read_wav(path) for path in options["speech"]]
        speeches += [speak(text, options["voice"]) for text in options["say"]]
    except (OSError, ValueError) as error:
        raise CommandError(str(error)) from error
    if not speeches:
        raise CommandError("nothing to say: a WAV file or --say TEXT expected")
    for name, speech in zip([*options["speech"], *options["say"]], speeches, strict=True):
        if not speech_spans(speech):
            raise CommandError(f"{str(name)!r} has no sound in it")
    turn: list[Step] = [WaitForAgent(quiet_s=GREETING_QUIET_S, timeout_s=GREETING_TIMEOUT_S)]
    steps: list[Step] = turn if options["after_greeting"] else []
    for number, speech in enumerate(speeches):
        steps = [*steps, *(turn if number else []), Say(line(speech))]
    steps += [Send(key(digit)) for digit in options["keys"]]
    return [*steps, WaitForAgent(quiet_s=options["hold"], timeout_s=options["timeout"], reply=False)]


def _write_replies(out: Path, reports: list[CallReport]) -> list[Path]:
    """Write what each phone played; the files."""
    written = []
    for number, report in enumerate(reports, start=1):
        path = out if len(reports) == 1 else out.with_stem(f"{out.stem}-{number}")
        try:
            write_wav(path, report.reply)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from error
        written.append(path)
    return written


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def _ping_seconds(text: str) -> float:
    value = _seconds(text)
    if not value:
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return value
