"""The format of telephone voice in frames, and how the agent's voice is sent."""

from dataclasses import dataclass

# Hz, mono, s16le; of the caller's voice, and of the agent's unless the client asks for another rate.
SAMPLE_RATE = 16_000
BYTES_PER_SECOND = SAMPLE_RATE * 2
FRAME_MS = 20  # RustPBX plays each message as one packet of this length


def frame_bytes(rate: int) -> int:
    """The bytes of one frame at `rate` Hz."""
    return rate * 2 * FRAME_MS // 1000


FRAME_BYTES = frame_bytes(SAMPLE_RATE)


@dataclass(frozen=True, slots=True)
class VoiceOut:
    """How the agent's voice is sent: at `rate` Hz, each frame `lead_s` seconds before it is to be played.

    A client that plays voice by its own clock needs the lead. It plays all that it has received.
    """

    rate: int = SAMPLE_RATE
    lead_s: float = 0.0


AS_A_TELEPHONE = VoiceOut()
"""Voice at 16 kHz, each frame at the time when it is to be played."""
