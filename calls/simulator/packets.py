"""What becomes of a telephone's packets on their way: sent in pairs, swapped, lost, doubled."""

import random
from dataclasses import dataclass


@dataclass
class Packets:
    """A network's habits. RustPBX has no jitter buffer: it hands on what comes, as it comes.

    Attributes:
        pairs: two at a time, as of a sender with Nagle's algorithm (47 ms apart were seen).
        lost, swapped, doubled: chances of each packet.
        seed: makes it the same each time.
    """

    pairs: bool = False
    lost: float = 0.0
    swapped: float = 0.0
    doubled: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)  # noqa: S311  no secret
        self._late: bytes | None = None  # the next one overtakes it
        self._half: list[bytes] = []  # of a pair

    def __call__(self, packet: bytes) -> list[bytes]:
        """What arrives now that this packet is sent."""
        arrived = self._way(packet)
        if not self.pairs:
            return arrived
        self._half += arrived
        if len(self._half) < 2:
            return []
        pair, self._half = self._half, []
        return pair

    def _way(self, packet: bytes) -> list[bytes]:
        if self._dice.random() < self.lost:
            return []
        if self._late is not None:
            late, self._late = self._late, None
            return [packet, late]
        if self._dice.random() < self.swapped:
            self._late = packet
            return []
        return [packet] * (2 if self._dice.random() < self.doubled else 1)
