"""`python -m benchmarks COMMAND`: see `--help`."""

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any

from benchmarks import (
    building,
    churn,
    coldstart,
    curve,
    fuzz,
    hearing,
    ivr,
    longcall,
    pages,
    point,
    report,
    soak,
    store,
    voice,
)
from benchmarks.faults import command as fault_command
from benchmarks.faults import report as fault_report
from benchmarks.figures import broken
from benchmarks.load import GENERATIONS

CLIMB = (10, 50, 75)  # calls, for what is measured beside the curve
CLIMB_S = 15.0

Options = argparse.Namespace


def _say(text: str) -> None:
    print(text, flush=True)


def _point(options: Options) -> None:
    server = options.server or point.SERVERS[options.side][0]
    figures = point.measure(
        options.side, server, options.calls, options.seconds, clients=options.clients, seed=options.seed
    )
    figures["broken"] = broken(figures)
    _say(json.dumps(figures))


def _run(options: Options) -> None:
    if options.quick:
        store.write_results(curve.quick(_say))
        return
    plan = curve.Plan(rounds=options.rounds, seconds=options.seconds)
    points = curve.measure(plan, _say)
    servers = [
        run for server in ("uvicorn", "granian") for run in curve.climb(server, "free", CLIMB, CLIMB_S, _say)
    ]
    store.write_results([*points, *servers])
    ours = [p for p in points if p["side"] == "ours" and p["calls"] in CLIMB]
    _keep(curve=points, servers=[*ours, *servers])
    _clients(options)


def _clients(_options: Options) -> None:
    kinds = ("seed", "new", "bridge")
    _keep(clients=[run for kind in kinds for run in curve.climb("daphne", kind, CLIMB, CLIMB_S, _say)])


def _all(options: Options) -> None:
    _run(options)
    if not options.quick:
        _keep(churn=[churn.measure("ours", "daphne", 1000)])
        _keep(coldstart=coldstart.measure())
        _keep(ivr=ivr.measure(ivr.CALLS, ivr.SECONDS))
        _keep(voice=voice.measure())
        _keep(hearing=hearing.measure())
        _keep(longcall=longcall.measure("daphne", 60, 10))
        _keep(pages=pages.measure(pages.TURNS))


def _churn(options: Options) -> None:
    _keep(churn=[churn.measure(side, point.SERVERS[side][0], options.calls) for side in options.sides])


def _coldstart(_options: Options) -> None:
    _keep(coldstart=coldstart.measure())


def _building(_options: Options) -> None:
    _say(json.dumps(asyncio.run(building.measure())))


def _ivr(options: Options) -> None:
    measured = ivr.measure(options.calls, options.seconds)
    if (options.calls, options.seconds) == (ivr.CALLS, ivr.SECONDS):
        _keep(ivr=measured)
    else:
        _say(json.dumps(measured))


def _voice(_options: Options) -> None:
    _keep(voice=voice.measure())


def _hearing(_options: Options) -> None:
    _keep(hearing=hearing.measure())


def _longcall(options: Options) -> None:
    _keep(longcall=longcall.measure("daphne", options.minutes, options.speed))


def _pages(options: Options) -> None:
    measured = pages.measure(options.turns, options.databases)
    if options.turns == pages.TURNS:
        _keep(pages=measured)
    else:
        _say(json.dumps(measured))


def _faults(options: Options) -> None:
    fault_command.run(options)


def _fuzz(options: Options) -> None:
    if not fuzz.run(options.messages, options.requests, _say):
        raise SystemExit(1)


def _soak(options: Options) -> None:
    figures = soak.measure(options.minutes, options.calls, _say, services=not options.sqlite)
    _say(soak.table(figures))
    if options.minutes >= 60:
        fault_report.write(
            fault_report.keep("soak", fault_command.commit(fault_report.ROOT), figures=figures)
        )
    if not soak.passed(figures):
        raise SystemExit(1)


def _report(_options: Options) -> None:
    report.write(store.load())


def _keep(**sections: Any) -> None:
    for name, section in sections.items():
        _say(f"{name}: {json.dumps(section)}")
    report.write(store.keep(**sections))


def main() -> None:
    """Run the command of the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure calls per core.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[Options], None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    for name, run, text in (
        ("all", _all, "everything, to docs/performance.md and results.json (about an hour)"),
        ("run", _run, "the curve, the three servers and the client generations"),
    ):
        added = command(name, run, text)
        added.add_argument("--quick", action="store_true", help="a minute and a half, to results.json only")
        added.add_argument("--rounds", type=int, default=3)
        added.add_argument("--seconds", type=float, default=25, help="of each measurement")
    one = command("point", _point, "one number of calls; prints one JSON line")
    one.add_argument("--side", choices=point.SERVERS, default="ours")
    one.add_argument("--server", choices=point.SERVERS["ours"])
    one.add_argument("--calls", type=int, default=10)
    one.add_argument("--seconds", type=float, default=20)
    one.add_argument("--clients", choices=GENERATIONS, default="free")
    one.add_argument("--seed", type=int, default=1)
    short = command("churn", _churn, "many short calls, and what they leave behind")
    short.add_argument("--calls", type=int, default=1000)
    short.add_argument("--sides", nargs="+", choices=point.SERVERS, default=["ours"])
    command("clients", _clients, "RustPBX's own clients")
    command("coldstart", _coldstart, "from starting a server to its first word")
    command(
        "building", _building, "what making a call's services takes of the event loop; prints one JSON line"
    )
    command("voice", _voice, "from the caller's last word to the agent's first, with the embedded models")
    asked = command("ivr", _ivr, "how soon RustPBX's questions are answered")
    asked.add_argument("--calls", type=int, default=ivr.CALLS)
    asked.add_argument("--seconds", type=float, default=ivr.SECONDS)
    command("hearing", _hearing, "what the embedded speech-to-text hears on a telephone (about 6 minutes)")
    long = command("longcall", _longcall, "what a call costs as it gets long")
    long.add_argument("--minutes", type=float, default=60)
    long.add_argument("--speed", type=int, default=10)
    shown = command("pages", _pages, "the analysts' pages with a million turns stored (about 15 minutes)")
    shown.add_argument("--turns", type=int, default=pages.TURNS, help="other numbers are only printed")
    shown.add_argument("--databases", nargs="+", choices=pages.DATABASES, default=pages.DATABASES)
    faults = command(
        "faults", _faults, "what is lost when something fails, to docs/reliability.md (25 minutes)"
    )
    fault_command.options(faults)
    fuzzing = command("fuzz", _fuzz, "generated messages and requests at a real server (about 20 minutes)")
    fuzzing.add_argument("--messages", type=int, default=fuzz.MESSAGES)
    fuzzing.add_argument("--requests", type=int, default=fuzz.REQUESTS)
    soaking = command("soak", _soak, "calls that come and go, and whether the server grows")
    soaking.add_argument("--minutes", type=float, default=60, help="less than 60 are only printed")
    soaking.add_argument("--calls", type=int, default=50, help="at once")
    soaking.add_argument("--sqlite", action="store_true", help="instead of PostgreSQL and Redis")
    command("report", _report, "write docs/performance.md again from benchmarks/details.json")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
