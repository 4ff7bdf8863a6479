"""WAV files."""

import io
import wave


def wav(pcm: bytes, rate: int) -> bytes:
    """Return a WAV file of mono s16le audio at `rate` Hz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    return buffer.getvalue()
