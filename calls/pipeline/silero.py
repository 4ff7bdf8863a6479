"""Silero VAD: one model for all calls, which judges windows of several calls in one run.

Pipecat's own analyser loads a model for each call: 27 MB, and 110 ms in which the event loop is blocked. The
model keeps no state, so its session is shared; each call keeps its `RecurrentState`, an input and output of
the model. Windows of several calls that come within a few milliseconds are judged in one batch: each further
window costs a third of the first. The model runs on the event loop and blocks it for 0.1 ms, rarely for 0.5:
handing a batch to a thread and back took as long.
"""

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calls.audio.format import SAMPLE_RATE

logger = logging.getLogger(__name__)

MODEL = files("pipecat.audio.vad.data") / "silero_vad.onnx"
WINDOW = 512  # samples, 32 ms: what the model judges at once
CONTEXT = 64  # samples of the window before, which are part of the model's input
RATE = np.array(SAMPLE_RATE, np.int64)
# After music and noise the model does not detect the speech that follows. Therefore, as in Pipecat's
# SileroVADAnalyzer, its state is reset every two seconds, but only while nobody speaks and after five windows
# in a row that were clearly no speech: a reset during speech would end it.
RESET_WINDOWS = math.ceil(2.0 * SAMPLE_RATE / WINDOW)
RESET_BELOW, RESET_AFTER_WINDOWS = 0.1, 5
SILENT_WINDOWS = 8  # with 1, one of six voices was still detected late
BATCH_EVERY_S = 0.008
MOST_AT_ONCE = 64  # windows in a batch, which blocks the event loop for 2 ms


class RecurrentState:
    """The model's state of one call, from window to window."""

    def __init__(self) -> None:
        self.reset()
        self._clear_windows = 0  # windows in a row that were clearly no speech

    def reset(self) -> None:
        """Forget all windows so far."""
        self.state = np.zeros((2, 1, 128), np.float32)
        self.context = np.zeros(CONTEXT, np.float32)
        self._windows = 0  # since this reset

    def follow(self, before: NDArray[np.float32]) -> None:
        """Prepare for a window that follows windows which were silent and did not go through the model.

        From its initial state the model detects the first speech up to 0.5 s late. So its state becomes the
        one it has after SILENT_WINDOWS of silence.

        Args:
            before: the last CONTEXT samples of those windows, from -1 to 1.
        """
        if not self._windows:
            self.state = _state_after_silence()
        self.context = before

    def reset_if_due(self, probability: float, *, quiet: bool) -> None:
        """Count a window, and reset where Pipecat would.

        Args:
            probability: that the window is speech.
            quiet: whether nobody was speaking before the window.
        """
        self._windows += 1
        self._clear_windows = self._clear_windows + 1 if probability < RESET_BELOW else 0
        if quiet and self._windows >= RESET_WINDOWS and self._clear_windows >= RESET_AFTER_WINDOWS:
            self.reset()


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A window that waits to be judged.

    Attributes:
        memory: the state of its call.
        samples: WINDOW samples from -1 to 1.
        judged: is called with the probability, from 0 to 1, that the window is speech.
    """

    memory: RecurrentState
    samples: NDArray[np.float32]
    judged: Callable[[float], None]


def warm() -> None:
    """Load the model and run it. Blocks for a tenth of a second."""
    _state_after_silence()


def judge(item: Item) -> None:
    """Judge a window within a few milliseconds, after all earlier windows of its call.

    If the model fails, the failure is logged and the probability is 0. Call it in an event loop.
    """
    _batches().add(item)


def run(batch: list[Item]) -> list[float]:
    """The probability of speech in each window of a batch; updates the calls' states.

    All windows must be of different calls.
    """
    heard = np.empty((len(batch), CONTEXT + WINDOW), np.float32)
    heard[:, :CONTEXT] = [item.memory.context for item in batch]
    heard[:, CONTEXT:] = [item.samples for item in batch]
    states = np.concatenate([item.memory.state for item in batch], axis=1)
    probabilities, states = _session().run(None, {"input": heard, "state": states, "sr": RATE})
    for i, item in enumerate(batch):
        item.memory.state = states[:, i : i + 1].copy()
        item.memory.context = heard[i, -CONTEXT:].copy()
    return [float(probability) for probability in probabilities[:, 0]]


@cache
def _session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.inter_op_num_threads = options.intra_op_num_threads = 1
    with as_file(MODEL) as path:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def _state_after_silence() -> NDArray[np.float32]:
    memory = RecurrentState()
    for _ in range(SILENT_WINDOWS):
        run([Item(memory, np.zeros(WINDOW, np.float32), lambda _: None)])
    return memory.state


class _Batches:
    """Collects the windows of all calls on one event loop, and runs a batch of them at most every 8 ms.

    A window that comes later than that after the last batch is judged at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._waiting: list[Item] = []
        self._next = 0.0  # no batch before this time of the loop

    def add(self, item: Item) -> None:
        """Judge this window in the next batch that has room for its call."""
        self._waiting.append(item)
        if len(self._waiting) == 1:
            at = max(self.loop.time(), self._next)
            self._next = at + BATCH_EVERY_S
            self.loop.call_at(at, self._run_next)

    def _run_next(self) -> None:
        batch, self._waiting = _one_of_each(self._waiting)
        if self._waiting:  # a call has several windows, or more than MOST_AT_ONCE calls have one
            self._next = self.loop.time()
            self.loop.call_soon(self._run_next)
        try:
            probabilities = run(batch)
        except Exception as e:  # no speech is detected then, but the calls go on
            logger.error("%d windows could not be judged: %s: %s", len(batch), type(e).__name__, e)
            probabilities = [0.0] * len(batch)
        for item, probability in zip(batch, probabilities, strict=True):
            item.judged(probability)


def _one_of_each(waiting: list[Item]) -> tuple[list[Item], list[Item]]:
    """The first window of each call, at most MOST_AT_ONCE, and the windows that are left."""
    first: dict[RecurrentState, Item] = {}
    rest = []
    for item in waiting:
        if item.memory in first or len(first) == MOST_AT_ONCE:
            rest.append(item)
        else:
            first[item.memory] = item
    return list(first.values()), rest


_of_loop: _Batches | None = None


def _batches() -> _Batches:
    global _of_loop  # noqa: PLW0603  one for all calls on the running loop
    loop = asyncio.get_running_loop()
    if _of_loop is None or _of_loop.loop is not loop:
        _of_loop = _Batches(loop)
    return _of_loop
