"""Silero VAD, its model loaded once and shared by all calls.

Pipecat's own analyser loads a model per call: 27 MB and 110 ms of a blocked event loop. The model keeps no
state, so its session is shared; each call keeps the recurrent state it needs. Windows of several calls that
come within a few milliseconds are judged at once: a window more costs a third of the first. That is done on
the event loop, which it holds for 0.1 ms, rarely for 0.5: handing it to a thread and back took as long.

A window too quiet to be speech is not judged at all, and ends speech earlier: the model goes on to hear a
voice for some 50 ms after its end, which every answer would wait for. Loudness is taken from the energy of
the last 0.4 s, without the filters of ITU-R BS.1770, which cost half as much as the model and move speech by
2 dB at most.

An upgrade of Pipecat must check what VADAnalyzer and SileroVADAnalyzer keep in the attributes used here.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pipecat.audio.utils import exp_smoothing, normalize_value
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState

from calls.audio.format import SAMPLE_RATE

logger = logging.getLogger(__name__)

WINDOW = 512  # samples, 32 ms: what Silero judges at once
WINDOW_BYTES = WINDOW * 2
CONTEXT = 64  # samples of the window before, which the model hears again
RATE = np.array(SAMPLE_RATE, np.int64)
FULL_SCALE = np.float32(1 / 32768)
MEAN_SQUARE = 1 / 32768**2 / WINDOW  # of a window, from its sum of squares
LOUDNESS_WINDOWS = 13  # 0.4 s, over which Pipecat measures loudness, too
# Loudness as Pipecat scales it: 0 at -110 LUFS, 1 at -10; nothing below the gate counts.
QUIET_LUFS, LOUD_LUFS, GATE_LUFS, OFFSET_LUFS = -110.0, -10.0, -70.0, -0.691
# What is quieter is no speech, by Pipecat's scale and as mean square (full scale is 1). A caller on a bad
# line may be 30 dB quieter than others; while the agent speaks, its own voice comes back as loud as that.
CLOSELY, AS_USUAL = (0.47, 10**-6.3), (0.6, 1e-5)
STILL = 10**-3.2  # of the speech's energy, −32 dB: nobody speaks
SOFT = 10**-2.0  # of it, −20 dB: may be speech
FADING = 10**-0.032  # a window: 10 dB a second
BATCH_EVERY_S = 0.008
MOST_AT_ONCE = 64  # windows: 2 ms of the event loop

Told = Callable[[bytes, VADState], None]
"""Is told of a window and of the state after it."""


@cache
def _silero() -> Any:
    """The model's session: Pipecat knows where the file is."""
    return SileroVADAnalyzer(sample_rate=SAMPLE_RATE)._model.session


def warm() -> None:
    """Load the model and run it once. Blocks for a tenth of a second."""
    _confidences([Item(SharedSileroVAD(), b"", np.zeros(WINDOW, np.float32), 0.0, lambda *_: None)])


class SharedSileroVAD(SileroVADAnalyzer):
    """Silero VAD with this call's state on the shared model."""

    def __init__(self, params: VADParams | None = None) -> None:
        VADAnalyzer.__init__(self, params=params)  # SileroVADAnalyzer's would load the model again
        self._model = RecurrentState()  # type: ignore[assignment]  # all that SileroVADAnalyzer asks of it
        self._windows_since_reset = 0
        self._low_confidence_windows = 0
        self._confidence = 0.0
        self._faint = AS_USUAL[1]
        self._energies: deque[float] = deque(maxlen=LOUDNESS_WINDOWS)  # mean squares, full scale is 1
        self._speech_energy = 0.0  # of the loudest window of speech, fading
        self._in_batches = 0  # windows on their way through the model
        self._passed_over = b""  # the last window, if the model has not heard it
        self.set_sample_rate(SAMPLE_RATE)
        if params is None:
            self.listen(closely=True)

    def listen(self, *, closely: bool) -> None:
        """Take faint speech for speech from now on, or only what is as loud as usual."""
        self._params.min_volume, self._faint = CLOSELY if closely else AS_USUAL

    def judge(self, window: bytes, told: Told) -> None:
        """Judge 32 ms of s16le audio at 16 kHz.

        `told` is called with the window and the state after it, in the order of the windows: at once if the
        window is too quiet to be speech, else from the event loop within a few milliseconds.
        """
        samples = np.frombuffer(window, np.int16).astype(np.float32)
        energy = float(samples.dot(samples)) * MEAN_SQUARE
        if not self._in_batches and self._is_still(energy):
            self._passed_over = window
            told(window, self._pass_over(window, energy))
        else:
            self._in_batches += 1
            if self._passed_over:  # the model hears the end of the window before
                before = np.frombuffer(self._passed_over[-CONTEXT * 2 :], np.int16)
                self._model.context = before * FULL_SCALE  # type: ignore[attr-defined]  # a RecurrentState
                self._passed_over = b""
            samples *= FULL_SCALE
            _batches().judge(Item(self, window, samples, energy, told))

    def _is_still(self, energy: float) -> bool:
        """Whether a window is too quiet to be speech, whatever the model would say.

        While somebody speaks, the measure is how loud they are: the model goes on to hear speech for some
        50 ms after its end. Where speech may just have started, soft sounds belong to it.
        """
        match self._vad_state:
            case VADState.QUIET:
                return energy < self._faint
            case VADState.SPEAKING | VADState.STOPPING:
                usual = min(AS_USUAL[1], SOFT * self._speech_energy)  # which is none of a faint voice
                return energy < max(self._faint, usual, STILL * self._speech_energy)
        return False

    def _pass_over(self, window: bytes, energy: float) -> VADState:
        """The state after a window that is no speech."""
        self._speech_energy *= FADING
        self._energies.append(energy)
        if self._vad_state is VADState.QUIET:
            self._prev_volume = self._get_smoothed_volume(window)
            return VADState.QUIET
        self._confidence = 0.0
        return self._run_analyzer(window)

    def voice_confidence(self, buffer: bytes) -> float:
        """The model's verdict on the window at hand, which came out of a batch."""
        self._maybe_reset_model(self._confidence)
        return self._confidence

    def judged(self, item: "Item", confidence: float) -> None:
        """The model has judged a window: pass on what it made of it."""
        self._in_batches -= 1
        self._confidence = 0.0 if self._is_still(item.energy) else confidence
        self._speech_energy *= FADING
        if self._confidence >= self._params.confidence:
            self._speech_energy = max(self._speech_energy, item.energy)
        self._energies.append(item.energy)
        item.told(item.window, self._run_analyzer(item.window))

    def _get_smoothed_volume(self, audio: bytes) -> float:
        return exp_smoothing(_loudness(self._energies), self._prev_volume, self._smoothing_factor)


def _loudness(energies: Sequence[float]) -> float:
    """Loudness of 0.4 s from 0 to 1; 0 for less than that."""
    if len(energies) < LOUDNESS_WINDOWS or not (energy := sum(energies)):
        return 0.0
    level = OFFSET_LUFS + 10 * math.log10(energy / LOUDNESS_WINDOWS)
    return normalize_value(level, QUIET_LUFS, LOUD_LUFS) if level >= GATE_LUFS else 0.0


class RecurrentState:
    """What Silero remembers of one call from window to window."""

    def __init__(self) -> None:
        self.reset_states()

    def reset_states(self) -> None:
        """Forget."""
        self.state = np.zeros((2, 1, 128), np.float32)
        self.context = np.zeros(CONTEXT, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Item:
    """A window on its way through the model, as bytes and as samples from -1 to 1."""

    analyzer: SharedSileroVAD
    window: bytes
    samples: NDArray[np.float32]
    energy: float
    told: Told


class _Batches:
    """Gathers windows of all calls on one event loop. One alone does not wait; in a crowd, 8 ms at most."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Item] = []
        self._next = 0.0  # no batch before this time of the loop

    def judge(self, item: Item) -> None:
        """Have the analyzer told what the model makes of its window."""
        self._waiting.append(item)
        if len(self._waiting) == 1:
            at = max(self._loop.time(), self._next)
            self._next = at + BATCH_EVERY_S
            self._loop.call_at(at, self._start)

    def _start(self) -> None:
        batch, rest = _one_of_each(self._waiting)
        self._waiting = rest
        if rest:  # the windows of a call that was held up, or of a great crowd
            self._next = self._loop.time()
            self._loop.call_soon(self._start)
        try:
            confidences = _confidences(batch)
        except Exception as e:  # without verdicts nobody is heard to speak, but the calls go on
            logger.error("%d windows could not be judged: %s: %s", len(batch), type(e).__name__, e)
            confidences = [0.0] * len(batch)
        for item, confidence in zip(batch, confidences, strict=True):
            item.analyzer.judged(item, confidence)


def _one_of_each(waiting: list[Item]) -> tuple[list[Item], list[Item]]:
    """The first window of each call, as many as are judged at once, and what is left."""
    first: dict[SharedSileroVAD, Item] = {}
    rest = []
    for item in waiting:
        if item.analyzer in first or len(first) == MOST_AT_ONCE:
            rest.append(item)
        else:
            first[item.analyzer] = item
    return list(first.values()), rest


def _confidences(batch: list[Item]) -> list[float]:
    """Run the model on a window each of several calls."""
    states: list[RecurrentState] = [item.analyzer._model for item in batch]  # type: ignore[misc]  # set above
    heard = np.empty((len(batch), CONTEXT + WINDOW), np.float32)
    heard[:, :CONTEXT] = [state.context for state in states]
    heard[:, CONTEXT:] = [item.samples for item in batch]
    remembered = np.concatenate([state.state for state in states], axis=1)
    inputs = {"input": heard, "state": remembered, "sr": RATE}
    confidences, remembered = _silero().run(None, inputs)
    for i, state in enumerate(states):
        state.state = remembered[:, i : i + 1].copy()
        state.context = heard[i, -CONTEXT:].copy()
    return [float(confidence) for confidence in confidences[:, 0]]


_of_loop: _Batches | None = None


def _batches() -> _Batches:
    global _of_loop  # noqa: PLW0603  one for all calls on the running loop
    if _of_loop is None or _of_loop._loop is not asyncio.get_running_loop():
        _of_loop = _Batches()
    return _of_loop
