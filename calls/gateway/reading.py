"""When to read a client that streams steadily. Pure: time comes in, decisions go out.

A client that streams without waiting for our messages need not be read frame by frame: its audio is read once
there is enough to judge, which wakes the process a third as often.
"""

from calls.audio.beat import next_beat
from calls.rustpbx.clock import AudioClock

GATHER = "voiceagent.gather"
"""The ASGI extension of a server that can wait for several audio messages and read them together."""

JITTER_S = 0.0015  # added to the time at which a frame is expected
# A client with Nagle's algorithm sends late when it is not acknowledged at once. LATE_READS reads that are
# more than LATE_FRAMES late (each read in time takes IN_TIME off the count) make us read every frame as it
# comes, for AS_THEY_COME_S.
LATE_FRAMES = 2.5
LATE_READS = 3
IN_TIME = 0.25
AS_THEY_COME_S = 10.0


class Reading:
    """Decides when one client's audio is read. All times are seconds on one monotonic clock.

    Args:
        clock: the client's audio clock.
        cadence_bytes: how much audio is judged at once.
        heard_bytes: how much audio came before.
    """

    def __init__(self, clock: AudioClock, cadence_bytes: int, heard_bytes: int = 0) -> None:
        self._clock = clock
        self._cadence = cadence_bytes
        self._heard = heard_bytes % cadence_bytes  # bytes of the piece that is to be judged next
        self._frames_missing = 1
        self._next: float | None = None
        self._late_reads = 0.0
        self._as_they_come_until = 0.0

    def arrived(self, now: float, size: int, frames: int) -> None:
        """Account for `size` bytes in `frames` frames read at `now`. The clock must have them already."""
        self._heard = (self._heard + size) % self._cadence
        self._frames_missing = -(-(self._cadence - self._heard) * frames // size)
        if self._next is not None:
            self._note_lateness(now)

    def plan(self, now: float, *, steady: bool) -> tuple[int, float] | None:
        """How many frames to wait for, and when they are expected; None: read frames as they come."""
        due = next_beat(self._clock.heard_until + self._frames_missing * self._clock.frame_s + JITTER_S)
        self._next = due if steady and now >= self._as_they_come_until else None
        return None if self._next is None else (self._frames_missing, self._next)

    def _note_lateness(self, now: float) -> None:
        """Count a late read, and stop planning for a while once there were LATE_READS."""
        late = self._clock.lag > LATE_FRAMES * self._clock.frame_s
        self._late_reads = self._late_reads + 1 if late else max(0.0, self._late_reads - IN_TIME)
        if self._late_reads >= LATE_READS:
            self._late_reads = 0.0
            self._as_they_come_until = now + AS_THEY_COME_S
