"""Ports for the servers that tests and benchmarks start."""

import random
import socket

# Below the ports of outgoing connections (32768 up, on Linux): none of those takes it before the server does.
OURS = range(20_000, 32_000)


def free_port() -> int:
    """A TCP port of the loopback address that is free now; raises OSError if a hundred tries found none."""
    for port in random.sample(OURS, 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError(f"no free port between {OURS.start} and {OURS.stop}")
