"""`manage.py calls`: the calls that go on now, and commands to them."""

import asyncio
import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.timezone import localtime, now
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from calls.gateway import commands
from calls.gateway.commands import ANSWER_S, Answer, NoAnswer
from calls.models import CallSession, Node
from calls.templatetags.call_format import duration

CONNECT_S = 5.0
SHOWN = 8  # characters of an id
MOST = 5  # ids in a message
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  what a server listens on, where it is reached


class Command(BaseCommand):
    """List the calls that go on, and tell one of them what to do."""

    help = "Lists the calls that go on, or tells one of them what to do."

    def add_arguments(self, parser: CommandParser) -> None:
        """One subcommand a verb."""
        verbs = parser.add_subparsers(dest="verb", metavar="VERB")
        verbs.add_parser("list", help="the calls that go on now, also without a VERB")
        for verb, argument, what in (
            ("say", "TEXT", "have the agent say a text, after what it is saying"),
            ("hangup", "", "have the agent say its farewell and hang up"),
            ("transfer", "DESTINATION", "announce a transfer, then hand the call on"),
            ("hold", "TEXT", "say a text, then leave the caller without answers for two minutes"),
            ("mute", "", "cut the agent short; it answers nothing for two minutes"),
            ("resume", "", "answer again after hold or mute"),
            ("prompt", "TEXT", "put another system prompt in force, from the next reply on"),
        ):
            each = verbs.add_parser(verb, help=what)
            each.add_argument("id", help="the call's id, or as much of its beginning as no other has")
            if argument:
                each.add_argument("argument", metavar=argument)
        for each in verbs.choices.values():
            each.add_argument("--json", action="store_true", help="print JSON, for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError if it was not carried out; with --json it exits with 1."""
        if options["verb"] in (None, "list"):
            self._list(options.get("json", False))
            return
        id, answer = _carry_out(options["id"], options["verb"], options.get("argument", ""))
        if options["json"]:
            self.stdout.write(json.dumps({"call": id, **answer}, ensure_ascii=False))
            if not answer["ok"]:
                raise SystemExit(1)
        elif answer["ok"]:
            self.stdout.write(answer["message"])
        else:
            raise CommandError(answer["message"])

    def _list(self, as_json: bool) -> None:
        calls = CallSession.objects.active().select_related("profile", "node").order_by("started_at", "id")
        rows = [_row(call) for call in calls]
        if as_json:
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False))
        elif not rows:
            self.stdout.write("No call goes on.")
        else:
            self._write_table(rows)

    def _write_table(self, rows: list[dict[str, Any]]) -> None:
        lines = [["ID", "LASTS", "CALLER", "CALLED", "PROFILE", "SERVER"]]
        for row in rows:
            names = (row[name] or "-" for name in ("caller", "callee", "profile", "server"))
            lines.append([row["id"][:SHOWN], row["lasts"], *names])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())


def _row(call: CallSession) -> dict[str, Any]:
    return {
        "id": str(call.pk),
        "started_at": call.started_at.isoformat(),
        "lasts": duration(now() - call.started_at),
        "caller": call.caller,
        "callee": call.callee,
        "profile": call.profile.slug if call.profile else "",
        "server": call.node.name if call.node else "",
        "is_test": call.is_test,
    }


def _carry_out(beginning: str, verb: str, argument: str) -> tuple[str | None, Answer]:
    """Give the command to the call whose id begins so. The call's id, if there is one, and the answer."""
    id = None
    try:
        call = _find(beginning)
        id = str(call.pk)
        if call.node is None or Node.objects.gone().filter(pk=call.node.pk).exists():
            raise NoAnswer("The server that ran this call is gone; the call is about to be closed.")
        command: commands.Command = {"call_id": id, "verb": verb, "argument": argument, "by": ""}
        if settings.REDIS_URL:
            return id, asyncio.run(commands.ask(call.node.pk, command))
        return id, _ask_directly(call.node.address, command)
    except NoAnswer as e:
        return id, {"ok": False, "message": str(e)}


def _find(beginning: str) -> CallSession:
    """The one call that goes on and whose id begins so. Raises NoAnswer."""
    calls = CallSession.objects.with_id(beginning)
    running = list(calls.active().select_related("node")[:MOST])
    if len(running) == 1:
        return running[0]
    if running:
        ids = ", ".join(str(call.pk) for call in running)
        raise NoAnswer(f"Several calls that go on have an id that begins with {beginning}: {ids}.")
    ended = list(calls[:2])
    if not ended:
        raise NoAnswer(f"No call has an id that begins with {beginning}.")
    if len(ended) > 1:
        raise NoAnswer(f"The calls whose ids begin with {beginning} have ended.")
    call, at = ended[0], localtime(ended[0].ended_at)
    raise NoAnswer(f"The call has ended at {at:%Y-%m-%d %H:%M:%S}: {call.get_end_reason_display()}.")


def _ask_directly(address: str, command: commands.Command) -> Answer:
    """Give the command to the server at this address. Raises NoAnswer."""
    host, _, port = address.rpartition(":")
    host = LOOPBACK.get(host, host)
    url = f"ws://{f'[{host}]' if ':' in host else host}:{port}/ws/commands"
    headers = {"Authorization": f"Bearer {commands.signature()}"}
    try:
        with connect(url, additional_headers=headers, open_timeout=CONNECT_S, proxy=None) as socket:
            socket.send(json.dumps(command))
            answer: Answer = json.loads(socket.recv(ANSWER_S))
    except (OSError, WebSocketException) as e:  # a timeout is an OSError
        why = str(e) or type(e).__name__
        raise NoAnswer(
            f"The server of this call does not answer at {address}: {why}. "
            "Commands to a server on another machine need REDIS_URL."
        ) from e
    return answer
