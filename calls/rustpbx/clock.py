"""How far a client's audio is behind the time at which it was spoken. Pure: time comes in."""

from collections import deque

ROUNDING_S = 1e-9
WINDOW_S = 0.200  # a lag that stays this long is no lag


class AudioClock:
    """The clock of one client, known from its audio alone. All times are seconds on one monotonic clock."""

    def __init__(self, now: float) -> None:
        self.frame_s = 0.01  # length of the latest frame
        self.last_frame = now  # when it came
        self.lag = 0.0  # how far behind the audio was then
        self._origin = now  # when the first sample was spoken
        self._received = 0.0  # seconds of audio
        self._window: deque[tuple[float, float, float]] = deque()  # (time, seconds of audio, lag)

    @property
    def heard_until(self) -> float:
        """When the latest sample that has come was spoken."""
        return self._origin + self._received

    def behind(self, now: float) -> float:
        """Seconds of audio the client should have sent by now and has not."""
        return now - self.heard_until

    def frame(self, now: float, seconds: float, frames: int, *, anew: bool) -> None:
        """Account for so many seconds of audio in so many frames; `anew`: the client had paused."""
        if anew:
            self._origin = now - self._received - seconds
        self._received += seconds
        self.frame_s = seconds / frames
        self.last_frame = now
        if self.behind(now) < 0:
            self._origin = now - self._received
        self.lag = self.behind(now)
        self._forget_constant_lag(now, seconds)

    def _forget_constant_lag(self, now: float, seconds: float) -> None:
        """Frames the client never had, or a clock slower than ours: not what the client is late by."""
        self._window.append((now, seconds, self.lag))
        while now - self._window[0][0] > WINDOW_S:
            self._window.popleft()
        first = self._window[0]
        span = now - first[0]
        if span < 0.9 * WINDOW_S:
            return
        audio = sum(entry[1] for entry in self._window) - first[1]
        if audio >= 0.95 * span:
            self._origin += max(0.0, min(entry[2] for entry in self._window))
            self._window.clear()
