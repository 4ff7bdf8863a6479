"""What a frame of telephone voice is, and how the agent's is sent."""

from dataclasses import dataclass

SAMPLE_RATE = (
    16_000  # Hz, mono, s16le; the caller's voice, and the agent's unless the client asks for another
)
BYTES_PER_SECOND = SAMPLE_RATE * 2
FRAME_MS = 20  # a packet of telephone voice, which RustPBX plays from each message


def frame_bytes(rate: int) -> int:
    """The bytes of one frame at `rate` Hz."""
    return rate * 2 * FRAME_MS // 1000


FRAME_BYTES = frame_bytes(SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class VoiceOut:
    """How the agent's voice is sent: `rate` in Hz, and `lead_s` seconds before it is to be heard.

    A client that plays voice by a clock of its own needs the lead; what it has got, it plays.
    """

    rate: int = SAMPLE_RATE
    lead_s: float = 0.0


AS_A_TELEPHONE = VoiceOut()
"""Voice at 16 kHz, each frame when it is to be heard."""
