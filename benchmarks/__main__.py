"""`python -m benchmarks COMMAND`: see `--help`."""

import argparse
import json

from benchmarks import point


def _point(options: argparse.Namespace) -> None:
    server = options.server or point.SERVERS[options.side][0]
    figures = point.measure(
        options.side, server, options.calls, options.seconds, clients=options.clients, seed=options.seed
    )
    print(json.dumps(figures))


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure calls per core.")
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("point", help="one number of calls; prints one JSON line")
    one.add_argument("--side", choices=point.SERVERS, default="ours")
    one.add_argument("--server", choices=point.SERVERS["ours"])
    one.add_argument("--calls", type=int, default=10)
    one.add_argument("--seconds", type=float, default=20)
    one.add_argument("--clients", choices=("free", "seed", "new", "mixed"), default="free")
    one.add_argument("--seed", type=int, default=1)
    one.set_defaults(run=_point)
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
