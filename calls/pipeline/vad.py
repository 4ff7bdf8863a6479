"""Silero VAD and smart turn, their models loaded once for all calls.

Pipecat's own analysers load a model per call: 27 MB and 110 ms of a blocked event loop. The models keep no
state of their own, so the sessions are shared; each call keeps the recurrent state and the audio it needs.

An upgrade of Pipecat must check: SileroOnnxModel's attributes set here, `_maybe_reset_model`'s use of them,
and that LocalSmartTurnAnalyzerV3 still predicts in `_predict_endpoint`.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
from pipecat.audio.turn.smart_turn.base_smart_turn import BaseSmartTurn, SmartTurnParams
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroOnnxModel, SileroVADAnalyzer
from pipecat.audio.vad.vad_analyzer import VADAnalyzer, VADParams, VADState

WINDOW_BYTES = 1024  # 32 ms at 16 kHz: what Silero judges at once


@cache
def _silero_session() -> Any:
    return SileroVADAnalyzer(sample_rate=16_000)._model.session


@cache
def _smart_turn() -> LocalSmartTurnAnalyzerV3:
    return LocalSmartTurnAnalyzerV3(sample_rate=16_000)


@cache
def _executor() -> ThreadPoolExecutor:
    """One thread judges the windows of all calls in turn: each takes 0.1 ms."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="vad")


@cache
def _turn_executor() -> ThreadPoolExecutor:
    """A decision takes 30 ms: many at once queue here instead of competing with the audio."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="smart-turn")


def warm() -> None:
    """Load both models and run them once. Blocks for about half a second."""
    analyzer = SharedSileroVAD()
    analyzer.set_sample_rate(16_000)
    analyzer.voice_confidence(bytes(WINDOW_BYTES))
    _smart_turn()._predict_endpoint(np.zeros(16_000, np.float32))
    _executor().submit(int).result()
    _turn_executor().submit(int).result()


class SharedSileroVAD(SileroVADAnalyzer):
    """Silero VAD with this call's state on the shared model."""

    def __init__(self, params: VADParams | None = None) -> None:
        VADAnalyzer.__init__(self, params=params)  # SileroVADAnalyzer's would load the model again
        self._model = _model_of(_silero_session())
        self._windows_since_reset = 0
        self._low_confidence_windows = 0

    async def analyze_audio(self, buffer: bytes) -> VADState:
        """Judge s16le audio at 16 kHz; the state after it. Less than a window only waits for the rest."""
        if len(self._vad_buffer) + len(buffer) < WINDOW_BYTES:
            return self._run_analyzer(buffer)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(_executor(), self._run_analyzer, buffer)


def _model_of(session: Any) -> SileroOnnxModel:
    """Pipecat's wrapper with fresh state around a session that is loaded already."""
    model = SileroOnnxModel.__new__(SileroOnnxModel)
    model.session = session
    model.sample_rates = [8000, 16_000]
    model.reset_states()
    return model


class SharedSmartTurn(BaseSmartTurn):
    """Smart turn v3 with this call's audio on the shared model."""

    def __init__(self, params: SmartTurnParams | None = None) -> None:
        super().__init__(sample_rate=16_000, params=params)

    @property
    def _model_executor(self) -> ThreadPoolExecutor:
        return _turn_executor()

    def _predict_endpoint(self, audio_array: np.ndarray) -> dict[str, Any]:
        return _smart_turn()._predict_endpoint(audio_array)
