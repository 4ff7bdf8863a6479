"""Smart turn, its model loaded once and shared by all calls: has the caller finished, or only paused?

Pipecat's own analyser loads a model per call and runs it with ONNX Runtime, where a decision takes 46 ms of
one core. OpenVINO runs the same file in 22 ms. A decision is the most expensive thing a call does.

An upgrade of Pipecat must check that BaseSmartTurn predicts in `_predict_endpoint` on `_model_executor`, and
what LocalSmartTurnAnalyzerV3 makes of audio before and after the model.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # it has stubs, but does not say so
from numpy.typing import NDArray
from pipecat.audio.turn.smart_turn import _whisper_features as whisper
from pipecat.audio.turn.smart_turn.base_smart_turn import BaseSmartTurn, SmartTurnParams

from calls.audio.format import SAMPLE_RATE
from calls.providers.niceness import give_way

MODEL = files("pipecat.audio.turn.smart_turn.data") / "smart-turn-v3.2-cpu.onnx"
BANDS, STEPS = 80, 800
SAMPLES = 8 * SAMPLE_RATE
SURE = 0.5
# Half precision, the default where the processor has it, is slower here: it converts to and fro.
OPTIONS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


def warm() -> None:
    """Load the model and run it once. Blocks for about a second."""
    _executor().submit(_model().finished, np.zeros(SAMPLE_RATE, np.float32)).result()


class SharedSmartTurn(BaseSmartTurn):
    """Smart turn v3 with this call's audio on the shared model."""

    def __init__(self, params: SmartTurnParams | None = None) -> None:
        super().__init__(sample_rate=SAMPLE_RATE, params=params)

    @property
    def _model_executor(self) -> ThreadPoolExecutor:
        return _executor()

    async def cleanup(self) -> None:
        """Leave the shared thread alone."""

    def _predict_endpoint(self, audio_array: NDArray[np.float32]) -> dict[str, Any]:
        probability = _model().finished(audio_array)
        return {"prediction": int(probability > SURE), "probability": probability}


class _Model:
    """The model in OpenVINO. Of one thread: it has one place for what it works on."""

    def __init__(self) -> None:
        core = openvino.Core()
        with as_file(MODEL) as path:
            model = core.read_model(path)
        model.reshape([1, BANDS, STEPS])
        self._request = core.compile_model(model, "CPU", OPTIONS).create_infer_request()

    def finished(self, audio: NDArray[np.float32]) -> float:
        """How sure the model is, from 0 to 1, that the speaker has finished. `audio`: 16 kHz, -1 to 1."""
        return float(self._request.infer([log_mel(audio)[np.newaxis]])[0].item())


def log_mel(audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Whisper's features of the last 8 s of `audio`: 80 bands in 800 steps of 10 ms.

    What is missing of 8 s is silence before it. One step of silence looks like another: one is worked out.
    """
    silent = max(0, SAMPLES - len(audio))
    samples = np.pad(audio[-SAMPLES:], (silent, 0))
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + whisper._NORM_VARIANCE_EPS)
    same = max(0, (silent - whisper._N_FFT // 2) // whisper._HOP_LENGTH)  # steps that hear nothing else
    rest = samples[same * whisper._HOP_LENGTH :]
    power = whisper._power_spectrogram(rest, whisper._HANN_WINDOW, whisper._N_FFT, whisper._HOP_LENGTH)
    bands = np.log10(np.maximum(whisper._MEL_FILTERS.T @ power, whisper._MEL_FLOOR))[:, :-1]
    bands = np.pad(np.maximum(bands, bands.max() - 8.0), ((0, 0), (same, 0)), mode="edge")
    return ((bands + 4.0) / 4.0).astype(np.float32)


@cache
def _model() -> _Model:
    return _Model()


@cache
def _executor() -> ThreadPoolExecutor:
    """Many decisions at once queue here instead of competing with the audio."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="smart-turn", initializer=give_way)
