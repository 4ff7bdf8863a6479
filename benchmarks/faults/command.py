"""`python -m benchmarks faults`."""

import argparse
import asyncio
import logging
import subprocess
from pathlib import Path

from benchmarks.faults import clients, process, providers, report, storage
from benchmarks.faults.fault import FAULTS
from benchmarks.faults.measure import CALLS, measure

_MODULES = [each.__name__ for each in (process, storage, clients, providers)]
NAMES = sorted(FAULTS, key=lambda name: _MODULES.index(FAULTS[name].happen.__module__))


def options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--only", nargs="+", choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--calls", type=int, default=CALLS, help="in progress when it fails")
    parser.add_argument("--checkout", type=Path, default=report.ROOT, help="the product to be measured")
    parser.add_argument("--keep-as", choices=report.RUNS, default="now", help="what the figures are kept as")


def run(chosen: argparse.Namespace) -> None:
    """Make the faults, print what came of them, and write benchmarks/faults.json and docs/reliability.md."""
    for noisy in ("asyncio", "aiohttp.server", "websockets.server"):  # our own side of lines that are cut
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    checkout = chosen.checkout.resolve()

    def say(text: str) -> None:
        print(text, flush=True)

    rows = asyncio.run(measure([FAULTS[name] for name in chosen.only or NAMES], checkout, chosen.calls, say))
    report.write(
        report.keep(chosen.keep_as, commit(checkout), rows=report.merged(chosen.keep_as, rows, NAMES))
    )


def commit(checkout: Path) -> str:
    """Which commit a checkout is at."""
    return subprocess.run(  # noqa: S603  a fixed command
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"],  # noqa: S607  see above
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
