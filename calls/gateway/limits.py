"""How much one client may send: token buckets for messages, bytes and audio. Pure, like the pacer."""

from dataclasses import dataclass

# A real client sends 100 messages a second and, after a stalled network, a few seconds' worth at once.
MESSAGES_PER_S = 250.0
MESSAGES_AT_ONCE = 1_500.0
# The bulkiest a client has to send is audio as JSON at twice real time, 330 KB a second.
BYTES_PER_S = 512 * 1024.0
BYTES_AT_ONCE = 8 * 1024 * 1024.0
# Audio at twice real time, and twenty seconds' worth at once.
AUDIO_PER_S = 2.0
AUDIO_AT_ONCE_S = 20.0
# More refused messages than this, of which FORGIVEN_PER_S are forgiven, are abuse; each KB counts as one.
ABUSE_AFTER = 5_000
FORGIVEN_PER_S = 100.0
REFUSED_BYTES = 1024
# So are more messages than this that cannot be used: ten seconds of malformed audio.
MISTAKES_AT_ONCE = 1_000
MISTAKES_PER_S = 1.0


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` tokens a second, at most `size` of them kept."""

    rate: float
    size: float
    level: float = 0.0
    at: float = 0.0

    @classmethod
    def full(cls, rate: float, size: float, now: float) -> "Bucket":
        """A full bucket."""
        return cls(rate, size, size, now)

    def take(self, amount: float, now: float) -> bool:
        """Take tokens if there are enough."""
        self.level = min(self.size, self.level + (now - self.at) * self.rate)
        self.at = now
        if self.level < amount:
            return False
        self.level -= amount
        return True


class Limits:
    """What one connection may still send. Times are seconds on a monotonic clock."""

    def __init__(self, now: float) -> None:
        self._messages = Bucket.full(MESSAGES_PER_S, MESSAGES_AT_ONCE, now)
        self._bytes = Bucket.full(BYTES_PER_S, BYTES_AT_ONCE, now)
        self._audio = Bucket.full(AUDIO_PER_S, AUDIO_AT_ONCE_S, now)
        self._patience = Bucket.full(FORGIVEN_PER_S, ABUSE_AFTER, now)
        self._mistakes = Bucket.full(MISTAKES_PER_S, MISTAKES_AT_ONCE, now)
        self.abused = False  # too many messages were refused or of no use: close the socket

    def messages(self, count: int, size: int, now: float) -> bool:
        """Whether the limits allow `count` more messages of `size` bytes in all; takes their tokens if so."""
        allowed = self._messages.take(count, now) and self._bytes.take(size, now)
        return self._within(allowed, now, max(1.0, size / REFUSED_BYTES))

    def mistake(self, now: float) -> None:
        """Account for a message that cannot be used."""
        if not self._mistakes.take(1.0, now):
            self.abused = True

    def audio(self, seconds: float, now: float) -> bool:
        """Whether the limit allows `seconds` more of audio; takes their tokens if so."""
        return self._within(self._audio.take(seconds, now), now)

    def _within(self, allowed: bool, now: float, weight: float = 1.0) -> bool:
        if not allowed and not self._patience.take(weight, now):
            self.abused = True
        return allowed
