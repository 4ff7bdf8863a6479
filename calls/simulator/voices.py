"""Callers' voices: whatever synthesisers this machine has, each unlike the others.

`hibari` is the voice that comes with the product. The others are programs of Debian's packages `flite` and
`espeak-ng`; a voice whose program is missing cannot speak.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from calls.simulator.audio import pcm_of, read_wav

SECONDS = 30.0  # a program that takes longer for a text is stuck


def _espeak(voice: str, words_a_minute: int, text: str, path: Path) -> list[str]:
    return ["espeak-ng", "-v", voice, "-s", str(words_a_minute), "-w", str(path), text]


def _flite(voice: str, text: str, path: Path) -> list[str]:
    return ["flite", "-voice", voice, "-t", text, "-o", str(path)]


_COMMANDS: dict[str, Callable[[str, Path], list[str]]] = {
    "slt": partial(_flite, "slt"),
    "rms": partial(_flite, "rms"),
    "awb": partial(_flite, "awb"),
    "kal": partial(_flite, "kal16"),
    "espeak": partial(_espeak, "en-us", 150),
    "espeak-fast": partial(_espeak, "en-gb", 190),
}
EMBEDDED = "hibari"
VOICES = (EMBEDDED, *_COMMANDS)
"""By name; slt is a woman, rms, awb (a Scot) and kal are men, the espeak ones robots."""


def speak(text: str, voice: str = EMBEDDED) -> bytes:
    """`text` as s16le mono 16 kHz audio.

    Raises ValueError for an unknown voice, and FileNotFoundError with the Debian package to install if the
    voice's program is missing.
    """
    if voice == EMBEDDED:
        samples, rate = _hibari()(text, seed=1), _hibari().sample_rate
        return pcm_of(samples, rate)
    if voice not in _COMMANDS:
        raise ValueError(f"unknown voice {voice!r}: expected one of {', '.join(VOICES)}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = _COMMANDS[voice](text, path)
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(f"the voice {voice} needs Debian's package {command[0]}")
        subprocess.run(command, check=True, timeout=SECONDS, stdout=subprocess.DEVNULL)  # noqa: S603  a list
        return read_wav(path)


@cache
def _hibari() -> Any:
    from hibari import Hibari  # here, as it loads a model

    return Hibari()
