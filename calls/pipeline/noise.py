"""Takes steady noise out of the caller's voice: WebRTC's noise suppression, 12 µs for 10 ms of it."""

from webrtc_noise_gain import AudioProcessor  # type: ignore[import-untyped]  # it has no type information

from calls.audio.format import SAMPLE_RATE

FRAME_BYTES = SAMPLE_RATE // 100 * 2  # 10 ms, which is what it takes at a time
# Of 4. In noise as loud as the voice a quarter to a third fewer words are mistaken; 3 adds nothing.
STRENGTH = 2
NO_GAIN = 0


class NoiseSuppression:
    """That of one call."""

    def __init__(self) -> None:
        self._processor = AudioProcessor(NO_GAIN, STRENGTH)
        self._left = bytearray()

    def __call__(self, pcm: bytes) -> bytes:
        """Return the voice of s16le audio at 16 kHz of any length; less than 10 ms of it may come later."""
        self._left += pcm
        whole = len(self._left) // FRAME_BYTES * FRAME_BYTES
        frames = [bytes(self._left[at : at + FRAME_BYTES]) for at in range(0, whole, FRAME_BYTES)]
        del self._left[:whole]
        return b"".join(self._processor.Process10ms(frame).audio for frame in frames)
