"""`python -m benchmarks faults`."""

import argparse
import asyncio
import logging
import subprocess
from pathlib import Path

from benchmarks.faults import clients, process, providers, report, storage  # noqa: F401  they declare the faults
from benchmarks.faults.fault import FAULTS
from benchmarks.faults.measure import CALLS, measure


def options(parser: argparse.ArgumentParser) -> None:
    """The options of the command."""
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--calls", type=int, default=CALLS, help="in progress when it fails")
    parser.add_argument("--checkout", type=Path, default=report.ROOT, help="the product to be measured")
    parser.add_argument("--keep-as", choices=report.ORDER, default="now", help="what the figures are kept as")


def run(chosen: argparse.Namespace) -> None:
    """Make the faults, print what came of them, and write benchmarks/faults.json and docs/reliability.md."""
    for noisy in ("asyncio", "aiohttp.server", "websockets.server"):  # our own side of lines that are cut
        logging.getLogger(noisy).setLevel(logging.CRITICAL)
    faults = [FAULTS[name] for name in chosen.only or FAULTS]
    checkout = chosen.checkout.resolve()
    rows = asyncio.run(measure(faults, checkout, chosen.calls, lambda text: print(text, flush=True)))
    commit = subprocess.run(  # noqa: S603  a fixed command
        ["git", "-C", str(checkout), "describe", "--always", "--dirty"],  # noqa: S607  see above
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    report.write(report.keep(chosen.keep_as, rows, commit), list(FAULTS))
