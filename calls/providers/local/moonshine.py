"""Moonshine, a recogniser of English speech, on ONNX Runtime. Blocking; for use in threads.

An encoder turns the sound into a sequence of vectors; a decoder writes the text, token by token, each from
the tokens before it (Jeffries et al. 2024, arXiv 2410.15608). All threads share one session of each: ONNX
Runtime releases Python's GIL while it runs.

A draft makes it faster. A draft holds the tokens that the decoder wrote a moment ago for the beginning of the
same speech. In one pass the decoder checks which of them it would write again: 13 tokens take 9 ms instead
of 40. From the first difference on, tokens are written one by one. (Where two words are about equally likely,
the text may differ from the one without a draft, as activations are quantised together. On average it is no
worse.)
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from django.conf import settings
from numpy.typing import NDArray

TINY, BASE = "moonshine-tiny-en", "moonshine-base-en"
SAMPLE_RATE = 16000
FULL_SCALE = np.float32(1 / 32768)
SHORTEST_SAMPLES = SAMPLE_RATE // 4  # the encoder needs as much; silence is appended to shorter sound
START, END = 1, 2  # tokens
# Fast speech has 5 tokens a second, and a short word may have several; with more, the model repeats itself.
TOKENS_PER_SECOND, TOKENS_BESIDE = 6.5, 6
SPACE = "▁"

Tensor = NDArray[np.float32] | NDArray[np.int64] | NDArray[np.bool_]
GiveUp = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Transcript:
    """A transcript: its text, which may be empty, its tokens, and how certain the model is.

    `confidence` is the mean logarithm of the tokens' probabilities, end of text included: 0 is certain. Clear
    speech has -0.1, speech in noise -0.5. `ended` is False if the model had to be stopped, as it wrote more
    than speech of that length can hold.
    """

    text: str
    tokens: tuple[int, ...]
    confidence: float
    ended: bool


class Moonshine:
    """A model in memory.

    Args:
        folder: holds encoder_model.ort, decoder_model_merged.ort (or the same as .onnx) and tokenizer.bin.

    Raises FileNotFoundError when one of them is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._vocabulary = read_vocabulary(folder / "tokenizer.bin")
        self._encoder = _session(folder, "encoder_model")
        self._decoder = _session(folder, "decoder_model_merged")
        self._encoder_inputs = {each.name for each in self._encoder.get_inputs()}
        inputs = {each.name: each for each in self._decoder.get_inputs()}
        self._decoder_inputs = set(inputs)
        self._presents = [each.name for each in self._decoder.get_outputs()][1:]
        # The decoder's state before the first token: empty.
        self._no_past = {
            name: np.zeros((1, each.shape[1], 0, each.shape[3]), np.float32)
            for name, each in inputs.items()
            if name.startswith("past_key_values")
        }

    def transcribe(
        self, pcm: bytes, draft: Sequence[int] = (), give_up: GiveUp = lambda: False
    ) -> Transcript | None:
        """Transcribe s16le mono 16 kHz audio of at most half a minute.

        `draft` holds tokens that are probably right. `give_up` is called before each pass of the decoder; if
        it returns True, the result is None.
        """
        samples = np.frombuffer(pcm, "<i2").astype(np.float32) * FULL_SCALE
        samples = np.pad(samples, (0, max(0, SHORTEST_SAMPLES - len(samples))))[np.newaxis]
        sound: dict[str, Tensor] = {
            "input_values": samples,
            "attention_mask": np.ones(samples.shape, np.int64),
        }
        (heard,) = self._encoder.run(None, {k: v for k, v in sound.items() if k in self._encoder_inputs})
        # The decoder's mask has a place for each sample as well, not for each vector.
        fixed = {"encoder_hidden_states": heard, "encoder_attention_mask": sound["attention_mask"]}
        writing = _Writing(int(samples.size / SAMPLE_RATE * TOKENS_PER_SECOND) + TOKENS_BESIDE)
        past: dict[str, Tensor] = dict(self._no_past)
        given = [START, *draft[: writing.room]]
        while True:
            if give_up():
                return None
            logits, past = self._pass(given, fixed, past, first=not writing.tokens)
            taken = writing.take(given[1:], logits)
            if writing.over:
                return Transcript(self.text(writing.tokens), *writing.result())
            # Cut the wrong tokens of the draft out of the decoder's state.
            surplus = len(given) - taken
            if surplus:
                past = {k: v[:, :, :-surplus] if ".decoder." in k else v for k, v in past.items()}
            given = [writing.tokens[-1]]

    def text(self, tokens: Sequence[int]) -> str:
        """The text of the tokens."""
        written = b"".join(self._vocabulary[token] for token in tokens)
        return written.decode(errors="replace").replace(SPACE, " ").strip()

    def _pass(
        self, tokens: list[int], fixed: dict[str, Tensor], past: dict[str, Tensor], *, first: bool
    ) -> tuple[NDArray[np.float32], dict[str, Tensor]]:
        """Run the decoder on tokens; return its logits for the token after each, and its new state."""
        given: dict[str, Tensor] = {
            **fixed, **past,
            "input_ids": np.array([tokens], np.int64), "use_cache_branch": np.array([not first]),
        }  # fmt: skip
        # The part of the state that is made of the sound comes from the first pass and does not change.
        wanted = [name for name in self._presents if first or ".decoder." in name]
        logits, *remembered = self._decoder.run(
            ["logits", *wanted], {k: v for k, v in given.items() if k in self._decoder_inputs}
        )
        names = (name.replace("present", "past_key_values") for name in wanted)
        return logits[0], past | dict(zip(names, remembered, strict=True))


class _Writing:
    """The text as it is written."""

    def __init__(self, room: int) -> None:
        self.tokens: list[int] = []
        self.room = room
        self.over = False
        self._ended = False
        self._log_probabilities: list[float] = []

    def take(self, draft: list[int], logits: NDArray[np.float32]) -> int:
        """Append the decoder's tokens that agree with the draft, and the one after them; return how many."""
        guesses = logits.argmax(axis=-1)
        agreed = next((i for i, token in enumerate(draft) if guesses[i] != token), len(draft))
        for guess, of in zip(guesses[: agreed + 1], logits, strict=False):
            best = of[guess]
            self._log_probabilities.append(-float(np.log(np.exp(of - best).sum())))
            self._ended = bool(guess == END)
            self.over = self._ended or len(self.tokens) >= self.room
            if self.over:
                break
            self.tokens.append(int(guess))
        return agreed + 1

    def result(self) -> tuple[tuple[int, ...], float, bool]:
        """The tokens, the confidence, and whether the model ended the text."""
        return tuple(self.tokens), float(np.mean(self._log_probabilities)), self._ended


def read_vocabulary(path: Path) -> list[bytes]:
    """Read the tokens of a binary tokenizer file, where each token is its length and its bytes.

    A length of 128 or more takes two bytes; the first one has the lower seven bits.
    """
    data = path.read_bytes()
    tokens, at = [], 0
    while at < len(data):
        length = data[at]
        at += 1
        if length >= 128:
            length += (data[at] - 1) * 128
            at += 1
        tokens.append(data[at : at + length])
        at += length
    return tokens


def tiny_folder() -> Path:
    """The weights of Moonshine tiny (English), inside an installed package.

    The package itself is not imported: of it only the weights are used. Raises FileNotFoundError when it
    isn't there.
    """
    spec = importlib.util.find_spec("moonshine_voice")
    for location in (spec and spec.submodule_search_locations) or ():
        folder = Path(location) / "assets" / "tiny-en"
        if folder.is_dir():
            return folder
    raise FileNotFoundError("the package moonshine-voice with the embedded speech-to-text is not installed")


def base_folder() -> Path:
    """Where `make better-stt` puts the weights of Moonshine base (English); it need not exist."""
    return Path(settings.DATA_DIR) / "models" / BASE


def _session(folder: Path, name: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # calls share the cores
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    path = next((p for p in (folder / f"{name}.ort", folder / f"{name}.onnx") if p.exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} holds no {name}.ort")
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
