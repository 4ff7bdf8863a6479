"""Measures how well the embedded speech-to-text recognises voices on telephone lines, and its CPU and memory.

Each utterance is transcribed whole, with silence around it, as if the voice activity detector had found its
ends. The audio is synthesised, or read from Debian's prompts for Asterisk; none is stored.
"""

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.figures import percentile
from calls.providers.local import phantoms
from calls.providers.local.moonshine import BASE, SAMPLE_RATE, Moonshine, tiny_folder
from calls.simulator.audio import read_wav
from calls.simulator.line import LINES, Line, telephone
from calls.simulator.voices import VOICES, prompts, speak
from calls.simulator.words import word_errors

ROOT = Path(__file__).resolve().parent.parent

# What callers of a small business say. Times and numbers are chosen so that they are written in one way only.
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
SLOW, FAST = 0.85, 1.2  # times the voice's own pace
PERSON = "person"
TOGETHER = "together"  # all synthesised voices
BEFORE, AFTER = bytes(int(0.3 * SAMPLE_RATE) * 2), bytes(int(0.2 * SAMPLE_RATE) * 2)  # silence

# A column of the table: the pace of the speech, and the line. Other paces are measured over a telephone.
CONDITIONS: dict[str, tuple[float, Line]] = {
    **{name: (1.0, line) for name, line in LINES.items()},
    "slower": (SLOW, telephone),
    "faster": (FAST, telephone),
}

Hear = Callable[[bytes], str]


@dataclass(frozen=True)
class Utterance:
    """The text of an utterance, and its s16le mono 16 kHz audio."""

    text: str
    pcm: bytes


Speaker = dict[float, list[Utterance]]
"""What a speaker says, by pace."""


def models() -> list[tuple[str, Path]]:
    """The installed embedded models: name and folder."""
    known = [("Moonshine tiny", tiny_folder())]
    data = Path(os.environ.get("DATA_DIR") or ROOT / "data")
    known.append(("Moonshine base", data / "models" / BASE))
    return [(name, folder) for name, folder in known if folder.is_dir()]


def measure() -> dict[str, Any]:
    """Measure each model: word error rates by speaker and condition, in percent, CPU and memory."""
    found, missing = speakers()
    measured = []
    for name, folder in models():
        model = Moonshine(folder)
        row = {"name": name, **figures(_hear(model), found), "memory_mb": memory(folder, _longest(found))}
        measured.append(row)
    recordings = len(found[PERSON][1.0]) if PERSON in found else 0
    return {"sentences": len(SENTENCES), "prompts": recordings, "missing": missing, "models": measured}


def _hear(model: Moonshine) -> Hear:
    def hear(pcm: bytes) -> str:
        transcript = model.transcribe(pcm)
        return phantoms.spoken(transcript) if transcript else ""

    return hear


def _longest(found: dict[str, Speaker]) -> bytes:
    return max((each.pcm for paces in found.values() for said in paces.values() for each in said), key=len)


# --- Counting ---------------------------------------------------------------------------------------------


def figures(hear: Hear, found: dict[str, Speaker]) -> dict[str, Any]:
    """The figures of `hear`, which transcribes in this process, for all speakers under all conditions."""
    hear(bytes(2 * SAMPLE_RATE))  # to warm up
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


def total(counts: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """The sums of errors and words."""
    all_counts = list(counts)
    return sum(errors for errors, _ in all_counts), sum(words for _, words in all_counts)


# --- Memory -----------------------------------------------------------------------------------------------


def memory(folder: Path, pcm: bytes) -> float:
    """The MB by which a fresh process grows when it loads a model and transcribes `pcm`."""
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
    """The speakers that are installed on this machine, and the names of those that are not."""
    found: dict[str, Speaker] = {}
    missing = []
    for voice in VOICES:
        try:
            found[voice] = {
                pace: [_padded(text, speak(text, voice, pace)) for text in SENTENCES]
                for pace in (1.0, SLOW, FAST)
            }
        except FileNotFoundError:
            missing.append(voice)
    if recordings := prompts():
        found[PERSON] = {1.0: [_padded(text, read_wav(path)) for text, path in recordings]}
    else:
        missing.append(PERSON)
    return found, missing


def _padded(text: str, pcm: bytes) -> Utterance:
    return Utterance(text, BEFORE + pcm + AFTER)
