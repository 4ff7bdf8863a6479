"""Plays a WAV file on this machine's speaker, with whichever program can."""

import shutil
import subprocess
from pathlib import Path

# PipeWire, PulseAudio, ALSA, FFmpeg: the first that is installed and finds a speaker is used.
PLAYERS = (
    ("pw-play",),
    ("paplay",),
    ("aplay", "-q"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)


def play(path: Path, seconds: float) -> str | None:
    """Play the WAV file at `path`, which lasts `seconds`; return the program used, None if none could."""
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
