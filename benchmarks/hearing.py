"""How well the embedded speech-to-text hears what a telephone leaves of a voice, and what that costs.

Each utterance is given whole, with silence around it, as if the voice activity detector had found its ends.
The audio is made here, or read from Debian's prompts for Asterisk: none is kept.
"""

import gzip
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import soundfile  # type: ignore[import-untyped]  # it has no type information
from num2words import num2words  # type: ignore[import-untyped]  # nor has it

from benchmarks.figures import percentile
from calls.providers.local import phantoms
from calls.providers.local.moonshine import SAMPLE_RATE, Moonshine, tiny_folder
from calls.simulator.audio import pcm_of, read_wav
from calls.simulator.line import LINES, Line, telephone
from calls.simulator.voices import EMBEDDED, speak

ROOT = Path(__file__).resolve().parent.parent

# What callers of a small business say. Times and numbers are such as are read and written in one way only.
SENTENCES = (
    "Yes please.",
    "No thank you.",
    "Yes, that is right.",
    "Could you say that again?",
    "I would like to book a table for four people on Friday.",
    "Do you have anything free on Tuesday at half past nine?",
    "My name is Peter Miller and I called yesterday.",
    "What time do you close on Saturday?",
    "I need to cancel my appointment for tomorrow morning.",
    "Can I speak to somebody about my bill?",
    "How much does it cost to repair a flat tire?",
    "The number of my order is forty seven.",
    "I ordered two shirts and only one of them arrived.",
    "Is there a parking lot near your office?",
    "Please call me back in twenty minutes.",
    "We will be twelve people, and two of them are children.",
    "My daughter Emma has had a fever since last night.",
    "I live at nineteen Garden Street, on the top floor.",
    "Does the price include breakfast?",
    "I am calling about the job in your kitchen.",
    "When will my bicycle be ready?",
    "Can you send the invoice to Laura Green instead?",
    "It stopped working about three weeks ago.",
    "That is all, thank you very much.",
)
FLITE = {"slt": "slt", "rms": "rms", "awb": "awb", "kal": "kal16"}  # the programs' own names of the voices
ESPEAK = "espeak"
VOICES = (EMBEDDED, *FLITE, ESPEAK)
ESPEAK_WORDS_A_MINUTE = 150  # of the simulator's voice
SLOW, FAST = 0.85, 1.2  # times the voice's own pace
PERSON = "person"
TOGETHER = "together"  # all voices that are no person
PROMPTS = Path("/usr/share/asterisk/sounds/en_US_f_Allison")
PROMPT_TEXTS = Path("/usr/share/doc/asterisk-core-sounds-en/core-sounds-en.txt.gz")
PLAIN = re.compile(r"[A-Z][\w',. ]*\w[.?!]")  # one or more whole sentences, without signs to be read somehow
# Their texts are misspelt, or not word for word what is said ("I am" for "I'm", a "but" left out).
INEXACT = frozenset(
    {"queue-periodic-announce", "invalid", "pbx-invalid", "pbx-invalidpark", "demo-nogo", "dir-instr"}
)
FEWEST_WORDS, LONGEST_S = 4, 12.0
BEFORE, AFTER = bytes(int(0.3 * SAMPLE_RATE) * 2), bytes(int(0.2 * SAMPLE_RATE) * 2)  # silence
PROGRAM_S = 30.0  # a synthesiser that takes longer is stuck

# A column of the table: at what pace it is said, and through what. Paces are heard over a telephone.
CONDITIONS: dict[str, tuple[float, Line]] = {
    **{name: (1.0, line) for name, line in LINES.items()},
    "slower": (SLOW, telephone),
    "faster": (FAST, telephone),
}

Hear = Callable[[bytes], str]


@dataclass(frozen=True)
class Utterance:
    """What is said, and s16le mono 16 kHz audio of it."""

    text: str
    pcm: bytes


Speaker = dict[float, list[Utterance]]
"""What a speaker says, by pace."""


def models() -> list[tuple[str, Path]]:
    """The installed embedded models: name and folder."""
    known = [("Moonshine tiny", tiny_folder())]
    data = Path(os.environ.get("DATA_DIR") or ROOT / "data")
    known.append(("Moonshine base", data / "models" / "moonshine-base-en"))
    return [(name, folder) for name, folder in known if folder.is_dir()]


def measure() -> dict[str, Any]:
    """Word error rates of each model by speaker and condition, in percent, and what the model takes."""
    found, missing = speakers()
    measured = []
    for name, folder in models():
        model = Moonshine(folder)
        row = {"name": name, **figures(_hear(model), found), "memory_mb": memory(folder, _longest(found))}
        measured.append(row)
    prompts = len(found[PERSON][1.0]) if PERSON in found else 0
    return {"sentences": len(SENTENCES), "prompts": prompts, "missing": missing, "models": measured}


def _hear(model: Moonshine) -> Hear:
    def hear(pcm: bytes) -> str:
        transcript = model.transcribe(pcm)
        return phantoms.spoken(transcript) if transcript else ""

    return hear


def _longest(found: dict[str, Speaker]) -> bytes:
    return max((each.pcm for paces in found.values() for said in paces.values() for each in said), key=len)


# --- Counting ---------------------------------------------------------------------------------------------


def figures(hear: Hear, found: dict[str, Speaker]) -> dict[str, Any]:
    """What `hear`, which runs in this process, makes of all the speakers say, under every condition."""
    hear(bytes(2 * SAMPLE_RATE))  # the first time takes longer
    counts: dict[str, dict[str, tuple[int, int]]] = {}
    took, lengths = [], []
    for speaker, paces in found.items():
        counts[speaker] = {}
        for condition, (pace, line) in CONDITIONS.items():
            pairs = []
            for said in paces.get(pace, ()):
                pcm = line(said.pcm)
                begin = time.process_time()
                heard = hear(pcm)
                took.append(time.process_time() - begin)
                lengths.append(len(pcm) / 2 / SAMPLE_RATE)
                pairs.append((said.text, heard))
            if pairs:
                counts[speaker][condition] = total(word_errors(*pair) for pair in pairs)
    machines = [of for speaker, of in counts.items() if speaker != PERSON]
    counts[TOGETHER] = {
        name: total(of[name] for of in machines if name in of)
        for name in CONDITIONS
        if any(name in of for of in machines)
    }
    p50, p95 = percentile(took, 0.5), percentile(took, 0.95)
    return {
        "word_errors_pct": {
            speaker: {name: round(100 * errors / words, 2) for name, (errors, words) in of.items()}
            for speaker, of in counts.items()
        },
        "utterances": len(took),
        "speech_s": round(sum(lengths)),
        "cpu_times_length": round(sum(took) / sum(lengths), 4),
        "cpu_p50_ms": p50 and round(1000 * p50, 1),
        "cpu_p95_ms": p95 and round(1000 * p95, 1),
    }


def words_of(text: str) -> list[str]:
    """The words in lower case, numbers spelled out, without punctuation."""
    text = re.sub(r"(\d),(\d{3})\b", r"\1\2", text.lower().replace("’", "'"))
    text = re.sub(r"\d+", lambda number: f" {num2words(int(number[0]))} ", text)
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.replace("-", " "))


def word_errors(said: str, heard: str) -> tuple[int, int]:
    """Words replaced, dropped and added, and the words said."""
    wanted, got = words_of(said), words_of(heard)
    row = list(range(len(got) + 1))
    for i, word in enumerate(wanted, 1):
        diagonal, row[0] = row[0], i
        for j, other in enumerate(got, 1):
            cost = min(diagonal + (word != other), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], cost
    return row[-1], len(wanted)


def total(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Errors and words of all."""
    all_counts = list(counts)
    return sum(errors for errors, _ in all_counts), sum(words for _, words in all_counts)


# --- Memory -----------------------------------------------------------------------------------------------


def memory(folder: Path, pcm: bytes) -> float:
    """MB by which a fresh process grows when it loads a model and transcribes `pcm`."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        return process.submit(_growth, folder, pcm).result()


def _growth(folder: Path, pcm: bytes) -> float:
    before = _resident_mb()
    model = Moonshine(folder)
    model.transcribe(pcm)
    return round(_resident_mb() - before, 1)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


# --- Speakers ---------------------------------------------------------------------------------------------


def speakers() -> tuple[dict[str, Speaker], list[str]]:
    """Who can be heard on this machine, and the names of those who cannot."""
    found: dict[str, Speaker] = {}
    missing = []
    for voice in VOICES:
        try:
            found[voice] = {
                pace: [_padded(text, _say(text, voice, pace)) for text in SENTENCES]
                for pace in (1.0, SLOW, FAST)
            }
        except FileNotFoundError:
            missing.append(voice)
    if PROMPTS.is_dir() and PROMPT_TEXTS.exists():
        found[PERSON] = {1.0: [_padded(text, read_wav(path)) for text, path in _prompts()]}
    else:
        missing.append(PERSON)
    return found, missing


def _padded(text: str, pcm: bytes) -> Utterance:
    return Utterance(text, BEFORE + pcm + AFTER)


def _say(text: str, voice: str, pace: float) -> bytes:
    """The voice at a multiple of its own pace. Raises FileNotFoundError if its program is missing."""
    if pace == 1.0:
        return speak(text, voice)
    if voice == EMBEDDED:
        return pcm_of(_hibari()(text, speed=pace, seed=1), _hibari().sample_rate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        if voice == ESPEAK:
            rate = round(ESPEAK_WORDS_A_MINUTE * pace)
            command = ["espeak-ng", "-v", "en-us", "-s", str(rate), "-w", str(path), text]
        else:
            stretch = f"duration_stretch={1 / pace:.4f}"
            command = ["flite", "-voice", FLITE[voice], "--setf", stretch, "-t", text, "-o", str(path)]
        if shutil.which(command[0]) is None:
            raise FileNotFoundError(f"the voice {voice} needs Debian's package {command[0]}")
        subprocess.run(command, check=True, timeout=PROGRAM_S, stdout=subprocess.DEVNULL)  # noqa: S603  a list
        return read_wav(path)


@cache
def _hibari() -> Any:
    from hibari import Hibari  # here, as it loads a model

    return Hibari()


def _prompts() -> list[tuple[str, Path]]:
    """The prompts whose text is that of whole sentences, each wording once: text and recording."""
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
