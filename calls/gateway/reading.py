"""When to read a client that streams steadily. Pure: time comes in, decisions go out.

A client that streams on without any message from us need not be read for each frame: its audio is read when
there is enough of it to judge, which wakes the process a third as often.
"""

from calls.audio.beat import next_beat
from calls.rustpbx.clock import AudioClock

GATHER = "voiceagent.gather"
"""The ASGI extension of a server that can let several messages of audio come before it reads them."""

JITTER_S = 0.0015  # how much later than usual a frame may come and still count
# A client with Nagle's algorithm is late when it is not acknowledged at once. After three times by more than
# so many frames, of which four times in time make up for one, its frames are read as they come for a while.
LATE_FRAMES = 2.5
LATE_READS = 3
IN_TIME = 0.25
AS_THEY_COME_S = 10.0


class Reading:
    """Decides when one client's audio is read. All times are seconds on one monotonic clock.

    Args:
        clock: of the client.
        cadence_bytes: how much audio is judged at once.
        heard_bytes: how much has been heard before.
    """

    def __init__(self, clock: AudioClock, cadence_bytes: int, heard_bytes: int = 0) -> None:
        self._clock = clock
        self._cadence = cadence_bytes
        self._heard = heard_bytes % cadence_bytes  # bytes of the piece that is judged next
        self._frames_missing = 1
        self._next: float | None = None
        self._late_reads = 0.0
        self._as_they_come_until = 0.0

    def arrived(self, now: float, size: int, frames: int) -> None:
        """Account for `size` bytes in so many frames that were read now, and that the clock knows of."""
        self._heard = (self._heard + size) % self._cadence
        self._frames_missing = -(-(self._cadence - self._heard) * frames // size)
        if self._next is not None:
            self._note_lateness(now)

    def plan(self, now: float, *, steady: bool) -> tuple[int, float] | None:
        """How many frames to let come, and when they will be there; None: read them as they come."""
        due = next_beat(self._clock.heard_until + self._frames_missing * self._clock.frame_s + JITTER_S)
        self._next = due if steady and now >= self._as_they_come_until else None
        return None if self._next is None else (self._frames_missing, self._next)

    def _note_lateness(self, now: float) -> None:
        """All that has come was read: was it in time, although nothing acknowledged it before?"""
        late = self._clock.lag > LATE_FRAMES * self._clock.frame_s
        self._late_reads = self._late_reads + 1 if late else max(0.0, self._late_reads - IN_TIME)
        if self._late_reads >= LATE_READS:
            self._late_reads = 0.0
            self._as_they_come_until = now + AS_THEY_COME_S
