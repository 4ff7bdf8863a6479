"""Callers' voices: the speech synthesisers that are installed here, and recordings of a person.

`hibari` is the voice that comes with the product. The others are programs of Debian's packages `flite` and
`espeak-ng`, and cannot be used without these. The person is the actress who recorded the prompts of the
package `asterisk-core-sounds-en-wav`.
"""

import gzip
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import soundfile  # type: ignore[import-untyped]  # it has no type information

from calls.simulator.audio import pcm_of, read_wav
from calls.simulator.words import words_of

EMBEDDED = "hibari"
FLITE = {"slt": "slt", "rms": "rms", "awb": "awb", "kal": "kal16"}  # the program's own names of its voices
ESPEAK = "espeak"
VOICES = (EMBEDDED, *FLITE, ESPEAK)
"""By name; slt is a woman, rms, awb (a Scot) and kal are men, espeak is a robot."""
ESPEAK_WORDS_A_MINUTE = 150
PROGRAM_S = 30.0  # a program that takes longer for a text is stuck

PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPT_TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PLAIN = re.compile(r"[A-Z][\w',. ]*\w[.?!]")  # one or more whole sentences, without signs to be read somehow
# The written text is misspelt, or differs from what is said ("I am" for "I'm", a "but" left out).
INEXACT = frozenset(
    {"queue-periodic-announce", "invalid", "pbx-invalid", "pbx-invalidpark", "demo-nogo", "dir-instr"}
)
FEWEST_WORDS, LONGEST_S = 4, 12.0


def speak(text: str, voice: str = EMBEDDED, pace: float = 1.0) -> bytes:
    """Synthesise `text` as s16le mono 16 kHz audio; `pace` 1 is the voice's own, 2 twice as fast.

    Raises ValueError for an unknown voice or a text that it can't say, and FileNotFoundError if the voice's
    program is missing; the message names the Debian package to install.
    """
    if voice == EMBEDDED:
        return pcm_of(_hibari()(text, speed=pace, seed=1), _hibari().sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        command = _command(text, voice, pace, path)
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(f"the voice {voice} needs Debian's package {command[0]}")
        try:
            subprocess.run(command, check=True, timeout=PROGRAM_S, capture_output=True)  # noqa: S603  a list
        except subprocess.SubprocessError as error:
            raise ValueError(f"the voice {voice} can't say {text!r}: {error}") from error
        return read_wav(path)


def _command(text: str, voice: str, pace: float, path: Path) -> list[str]:
    if voice == ESPEAK:
        rate = round(ESPEAK_WORDS_A_MINUTE * pace)
        return ["espeak-ng", "-v", "en-us", "-s", str(rate), "-w", str(path), "--", text]
    if voice not in FLITE:
        raise ValueError(f"unknown voice {voice!r}: expected one of {', '.join(VOICES)}")
    stretch = f"duration_stretch={1 / pace:.4f}"
    return ["flite", "-voice", FLITE[voice], "--setf", stretch, "-t", text, "-o", str(path)]


@cache
def _hibari() -> Any:
    from hibari import Hibari  # here, as it loads a model

    return Hibari()


def prompts() -> list[tuple[str, Path]]:
    """The person's recordings of whole sentences, as (what is said, file); each wording once.

    Empty if the package is not installed.
    """
    if not PROMPT_TEXTS.exists():
        return []
    with gzip.open(PROMPT_TEXTS, "rt", encoding="latin-1") as lines:
        texts = re.findall(r"^([\w-]+): +(.+?) *$", lines.read(), re.MULTILINE)
    chosen: dict[tuple[str, ...], tuple[str, Path]] = {}
    for name, text in texts:
        path, words = PROMPTS / f"{name}.wav", tuple(words_of(text))
        if (
            PLAIN.fullmatch(text)
            and ".." not in text
            and len(words) >= FEWEST_WORDS
            and words not in chosen
            and name not in INEXACT
            and path.exists()
            and soundfile.info(path).duration <= LONGEST_S
        ):
            chosen[words] = text, path
    return list(chosen.values())
