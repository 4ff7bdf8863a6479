"""What a frame of telephone voice is, in both directions."""

SAMPLE_RATE = 16_000  # Hz, mono, s16le
BYTES_PER_SECOND = SAMPLE_RATE * 2
FRAME_MS = 20  # a packet of telephone voice, which RustPBX plays from each message
FRAME_BYTES = BYTES_PER_SECOND * FRAME_MS // 1000
