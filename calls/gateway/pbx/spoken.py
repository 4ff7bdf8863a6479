"""What is spoken to callers who cannot be answered: WAV files that a PBX fetches from us."""

import logging
import os
import tempfile
from pathlib import Path

import numpy as np
from django.conf import settings

from calls.audio.wav import wav
from calls.models import Pbx
from calls.models.pbx import spoken_name
from calls.providers.local import voice

logger = logging.getLogger(__name__)

RATE = 8_000  # Hz: every telephone can do that
PATH = "/rustpbx/say/"
TONE_HZ, TONE_S, TONES = 425, 0.5, 4  # "busy", as most countries know it


def url(agent_url: str, text: str) -> str:
    """Where a PBX fetches it."""
    return f"{agent_url}{PATH}{spoken_name(text)}.wav"


def wav_named(name: str) -> bytes | None:
    """The WAV of this name, None if no PBX has such a text. For threads: it may take a second."""
    path = Path(settings.DATA_DIR) / "spoken" / f"{name}.wav"
    if path.is_file():
        return path.read_bytes()
    for text in Pbx.objects.values_list("overflow_text", flat=True):
        if spoken_name(text) == name:
            return _made(text, path)
    return None


def _made(text: str, path: Path) -> bytes:
    """Speak the text and keep it; if the voice fails, a tone: a missing file would be silence for good."""
    try:
        pcm = b"".join(voice.speak(piece, 1.0, RATE).pcm for piece in voice.pieces(text))
    except Exception:
        logger.exception("a text could not be spoken")
        return wav(_tones(), RATE)
    made = wav(pcm, RATE)
    try:
        path.parent.mkdir(exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(made)
        os.replace(file.name, path)
    except OSError as e:
        logger.error("a spoken text could not be kept: %s", e)
    return made


def _tones() -> bytes:
    times = np.arange(int(TONE_S * RATE)) / RATE
    tone = (np.sin(2 * np.pi * TONE_HZ * times) * 8000).astype("<i2")
    return np.tile(np.concatenate([tone, np.zeros_like(tone)]), TONES).tobytes()
