"""This machine's speaker, through whatever plays a WAV file here."""

import shutil
import subprocess
from pathlib import Path

# PipeWire, PulseAudio, ALSA, FFmpeg: the first that is there and finds a speaker.
PLAYERS = (
    ("pw-play",),
    ("paplay",),
    ("aplay", "-q"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)


def play(path: Path, seconds: float) -> str | None:
    """Play the WAV file at `path`, which lasts `seconds`; the program that did, None if none could."""
    for program, *options in PLAYERS:
        if shutil.which(program) is None:
            continue
        command = [program, *options, str(path)]
        try:
            subprocess.run(command, check=True, timeout=seconds + 5, capture_output=True)  # noqa: S603  a list
        except (subprocess.SubprocessError, OSError):
            continue
        return program
    return None
