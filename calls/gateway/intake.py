"""The caller's audio between socket and call: within its limits, at 16 kHz, kept until there is a call."""

from calls.audio.format import BYTES_PER_SECOND, SAMPLE_RATE
from calls.audio.resampling import Resampler
from calls.conversation.call import Call
from calls.gateway.idle import AudioTimer
from calls.gateway.limits import Limits
from calls.gateway.pacing import Pacing
from calls.rustpbx.messages import Audio, ErrorCode, ProtocolError

EARLY_AUDIO_S = 5.0  # kept until the call starts
TELLING_S = 0.5  # audio of that long tells its rate


class Intake:
    """Takes the caller's audio.

    Args:
        rate: of the audio, in Hz.
        pacing, limits, timer: are told of it.
    """

    def __init__(self, rate: int, pacing: Pacing, limits: Limits, timer: AudioTimer) -> None:
        self._pacing = pacing
        self._limits = limits
        self._timer = timer
        self._early = bytearray()  # as it came
        self._first = self._last = 0.0
        self._size = 0  # of what came after the first
        self._call: Call | None = None
        self.expect(rate)

    def expect(self, rate: int) -> None:
        """The audio is at this rate, in Hz, also what has come before."""
        self._bytes_per_second = 2 * rate
        self._to_16_khz = Resampler(rate, SAMPLE_RATE)

    @property
    def bytes_per_second(self) -> float | None:
        """How fast audio has come so far, before there is a call; None if that cannot be told yet."""
        lasted = self._last - self._first
        return self._size / lasted if lasted >= TELLING_S else None

    def take(self, audio: Audio, frames: int, now: float) -> None:
        """Take the audio of so many frames, which came `now`; an empty packet's is none.

        Raises:
            ProtocolError: there is more of it than time for it to be spoken in (429).
        """
        size = len(audio.pcm)
        if not size:
            return
        seconds = size / self._bytes_per_second
        self._pacing.arrived(now, seconds, frames)
        self._timer.heard(now)
        if not self._limits.audio(seconds, now):
            raise ProtocolError(ErrorCode.TOO_FAST, "expected audio at the pace of speech, got it faster")
        if self._call is not None:
            self._call.hear(self._to_16_khz(audio.pcm))
            self._pacing.heard(now, size, frames)
        elif len(self._early) < EARLY_AUDIO_S * self._bytes_per_second:
            if not self._early:
                self._first = now
            else:
                self._size += size
            self._last = now
            self._early += audio.pcm

    def give_to(self, call: Call) -> None:
        """The call hears from now on, first of all what came before it."""
        self._call = call
        cadence_bytes = call.cadence_bytes * self._bytes_per_second // BYTES_PER_SECOND
        self._pacing.judged_every(cadence_bytes, len(self._early))
        call.hear(self._to_16_khz(bytes(self._early)))
        self._early.clear()
