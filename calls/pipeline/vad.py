"""Silero VAD and smart turn, their models loaded once and shared by all calls.

Pipecat's own analysers load a model per call: 27 MB and 110 ms of a blocked event loop. The models keep no
state, so sessions are shared; each call keeps the recurrent state and the audio it needs. Windows of several
calls that come within a few milliseconds are judged at once, off the event loop: in a batch a window costs a
third. Digital silence is not judged at all. Loudness is taken from the energy of the last 0.4 s, without the
filters of ITU-R BS.1770, which cost half as much as the model and move speech by 2 dB at most.

An upgrade of Pipecat must check: what VADAnalyzer and SileroVADAnalyzer keep in the attributes used here, and
that BaseSmartTurn predicts in `_predict_endpoint` on `_model_executor`.
"""

import asyncio
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from pipecat.audio.turn.smart_turn.base_smart_turn import BaseSmartTurn, SmartTurnParams
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.utils import exp_smoothing, normalize_value
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState

RATE = 16_000
WINDOW = 512  # samples, 32 ms: what Silero judges at once
WINDOW_BYTES = WINDOW * 2
CONTEXT = 64  # samples of the window before, which the model hears again
SILENCE = bytes(WINDOW_BYTES)
LOUDNESS_WINDOWS = 13  # 0.4 s, over which Pipecat measures loudness, too
# Loudness as Pipecat scales it: 0 at -110 LUFS, 1 at -10; nothing below the gate counts.
QUIET_LUFS, LOUD_LUFS, GATE_LUFS, OFFSET_LUFS = -110.0, -10.0, -70.0, -0.691
BATCH_EVERY_S = 0.008


@cache
def _silero() -> Any:
    """The model's session: Pipecat knows where the file is."""
    return SileroVADAnalyzer(sample_rate=RATE)._model.session


@cache
def _smart_turn() -> LocalSmartTurnAnalyzerV3:
    return LocalSmartTurnAnalyzerV3(sample_rate=RATE)


@cache
def _vad_executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="vad")


@cache
def _turn_executor() -> ThreadPoolExecutor:
    """A decision takes 30 ms: many at once queue here instead of competing with the audio."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="smart-turn")


def warm() -> None:
    """Load both models and run them once. Blocks for about half a second."""
    analyzer = SharedSileroVAD()
    analyzer.set_sample_rate(RATE)
    _judge([(analyzer, bytes(range(256)) * 4)])
    _smart_turn()._predict_endpoint(np.zeros(RATE, np.float32))
    _vad_executor().submit(int).result()
    _turn_executor().submit(int).result()


class SharedSileroVAD(SileroVADAnalyzer):
    """Silero VAD with this call's state on the shared model."""

    def __init__(self, params: VADParams | None = None) -> None:
        VADAnalyzer.__init__(self, params=params)  # SileroVADAnalyzer's would load the model again
        self._model = RecurrentState()  # type: ignore[assignment]  # all that SileroVADAnalyzer asks of it
        self._windows_since_reset = 0
        self._low_confidence_windows = 0
        self._confidence = 0.0
        self._energies: deque[float] = deque(maxlen=LOUDNESS_WINDOWS)  # mean squares, full scale is 1
        self._silent_windows = 0

    async def analyze_audio(self, buffer: bytes) -> VADState:
        """Judge s16le audio at 16 kHz; the state after it. Less than a window waits for the rest."""
        self._vad_buffer += buffer
        while len(self._vad_buffer) >= WINDOW_BYTES:
            window, self._vad_buffer = self._vad_buffer[:WINDOW_BYTES], self._vad_buffer[WINDOW_BYTES:]
            self._silent_windows = self._silent_windows + 1 if window == SILENCE else 0
            if self._silent_windows > LOUDNESS_WINDOWS:
                if self._silent_windows == LOUDNESS_WINDOWS + 1:
                    self._model.reset_states()
                self.take_verdict(window, 0.0, 0.0)
            else:
                await _batches().judge(self, window)
        return self._vad_state

    def voice_confidence(self, buffer: bytes) -> float:
        """The model's verdict on the window at hand, which came out of a batch."""
        self._maybe_reset_model(self._confidence)
        return self._confidence

    def take_verdict(self, window: bytes, confidence: float, energy: float) -> None:
        """Bring the state up to date with a window, what the model made of it, and its mean square."""
        self._confidence = confidence
        self._energies.append(energy)
        rest, self._vad_buffer = self._vad_buffer, b""
        self._run_analyzer(window)
        self._vad_buffer = rest

    def _get_smoothed_volume(self, audio: bytes) -> float:
        return exp_smoothing(self._volume(), self._prev_volume, self._smoothing_factor)

    def _volume(self) -> float:
        """Loudness of the last 0.4 s from 0 to 1; 0 until there is as much."""
        if len(self._energies) < LOUDNESS_WINDOWS or not (energy := sum(self._energies)):
            return 0.0
        level = OFFSET_LUFS + 10 * math.log10(energy / LOUDNESS_WINDOWS)
        return normalize_value(level, QUIET_LUFS, LOUD_LUFS) if level >= GATE_LUFS else 0.0


class RecurrentState:
    """What Silero remembers of one call from window to window."""

    def __init__(self) -> None:
        self.reset_states()

    def reset_states(self) -> None:
        """Forget."""
        self.state = np.zeros((2, 128), np.float32)
        self.context = np.zeros(CONTEXT, np.float32)


Item = tuple[SharedSileroVAD, bytes, "asyncio.Future[None]"]


class _Batches:
    """Gathers windows of all calls on one event loop. One alone does not wait; in a crowd, 8 ms at most."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Item] = []
        self._next = 0.0  # no batch before this time of the loop

    def judge(self, analyzer: SharedSileroVAD, window: bytes) -> "asyncio.Future[None]":
        """The analyzer's state is up to date with the window once the future is done."""
        judged = self._loop.create_future()
        self._waiting.append((analyzer, window, judged))
        if len(self._waiting) == 1:
            at = max(self._loop.time(), self._next)
            self._next = at + BATCH_EVERY_S
            self._loop.call_at(at, self._start)
        return judged

    def _start(self) -> None:
        batch, self._waiting = self._waiting, []
        running = self._loop.run_in_executor(_vad_executor(), _judge, [item[:2] for item in batch])
        running.add_done_callback(lambda done: _settle(batch, done.exception()))


def _settle(batch: list[Item], error: BaseException | None) -> None:
    for _, _, judged in batch:
        if judged.done():  # its call has ended meanwhile
            continue
        if error is None:
            judged.set_result(None)
        else:
            judged.set_exception(error)


def _judge(batch: list[tuple[SharedSileroVAD, bytes]]) -> None:
    """Run the model on a window each of several calls."""
    states: list[RecurrentState] = [analyzer._model for analyzer, _ in batch]  # type: ignore[misc]  # set above
    heard = np.empty((len(batch), CONTEXT + WINDOW), np.float32)
    heard[:, :CONTEXT] = [state.context for state in states]
    heard[:, CONTEXT:] = [np.frombuffer(window, np.int16) for _, window in batch]
    heard[:, CONTEXT:] /= 32768.0
    inputs = {
        "input": heard,
        "state": np.stack([state.state for state in states], axis=1),
        "sr": np.array(RATE, np.int64),
    }
    confidences, remembered = _silero().run(None, inputs)
    samples = heard[:, CONTEXT:]
    energies = np.einsum("ij,ij->i", samples, samples) / WINDOW
    for i, (analyzer, window) in enumerate(batch):
        states[i].state = remembered[:, i].copy()
        states[i].context = heard[i, -CONTEXT:].copy()
        analyzer.take_verdict(window, float(confidences[i, 0]), float(energies[i]))


_of_loop: _Batches | None = None


def _batches() -> _Batches:
    global _of_loop  # noqa: PLW0603  one for all calls on the running loop
    if _of_loop is None or _of_loop._loop is not asyncio.get_running_loop():
        _of_loop = _Batches()
    return _of_loop


class SharedSmartTurn(BaseSmartTurn):
    """Smart turn v3 with this call's audio on the shared model."""

    def __init__(self, params: SmartTurnParams | None = None) -> None:
        super().__init__(sample_rate=RATE, params=params)

    @property
    def _model_executor(self) -> ThreadPoolExecutor:
        return _turn_executor()

    async def cleanup(self) -> None:
        """Leave the shared thread alone."""

    def _predict_endpoint(self, audio_array: np.ndarray) -> dict[str, Any]:
        return _smart_turn()._predict_endpoint(audio_array)
