"""What a frame of telephone voice is."""

SAMPLE_RATE = (
    16_000  # Hz, mono, s16le; the caller's voice, and the agent's unless the client asks for another
)
VOICE_RATES = (8_000, SAMPLE_RATE)  # Hz, of the agent's voice
BYTES_PER_SECOND = SAMPLE_RATE * 2
FRAME_MS = 20  # a packet of telephone voice, which RustPBX plays from each message


def frame_bytes(rate: int) -> int:
    """The bytes of one frame at `rate` Hz."""
    return rate * 2 * FRAME_MS // 1000


FRAME_BYTES = frame_bytes(SAMPLE_RATE)
