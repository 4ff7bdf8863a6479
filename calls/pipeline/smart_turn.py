"""Smart turn, its model loaded once and shared by all calls: has the caller finished, or only paused?

Pipecat's own analyser loads a model per call and runs it with ONNX Runtime, where a decision takes 46 ms of
one core. OpenVINO runs the same file in 22 ms. A decision is the most expensive thing a call does.

An upgrade of Pipecat must check that BaseSmartTurn predicts in `_predict_endpoint` on `_model_executor`, and
that LocalSmartTurnAnalyzerV3 does so with `_session` and has nothing else to set up.
"""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import openvino  # type: ignore[import-untyped]  # it has stubs, but does not say so
from numpy.typing import NDArray
from pipecat.audio.turn.smart_turn.base_smart_turn import BaseSmartTurn, SmartTurnParams
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3

from calls.protocol import SAMPLE_RATE

MODEL = files("pipecat.audio.turn.smart_turn.data") / "smart-turn-v3.2-cpu.onnx"
FEATURES = [1, 80, 800]  # one call's 80 bands of 8 s in steps of 10 ms
NICENESS = 4  # two fifths of the event loop's share where both want the same core
# Half precision, the default where the processor has it, is slower here: it converts to and fro.
OPTIONS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


def warm() -> None:
    """Load the model and run it once. Blocks for about a second."""
    _executor().submit(_model()._predict_endpoint, np.zeros(SAMPLE_RATE, np.float32)).result()


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
        return _model()._predict_endpoint(audio_array)


class _Session:
    """The model in OpenVINO, with as much of ONNX Runtime's interface as Pipecat's analyser uses."""

    def __init__(self) -> None:
        core = openvino.Core()
        with as_file(MODEL) as path:
            model = core.read_model(path)
        model.reshape(FEATURES)
        compiled = core.compile_model(model, "CPU", OPTIONS)
        self._request = compiled.create_infer_request()

    def run(self, _outputs: None, inputs: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """The model's only output, for 8 s of one call's features."""
        return [self._request.infer(inputs)[0]]


class _Model(LocalSmartTurnAnalyzerV3):
    """Pipecat's way from audio to a verdict, on OpenVINO."""

    def __init__(self) -> None:
        BaseSmartTurn.__init__(
            self, sample_rate=SAMPLE_RATE
        )  # LocalSmartTurnAnalyzerV3's would load the model, too
        self._log_data = False
        self._session = _Session()


@cache
def _model() -> _Model:
    return _Model()


@cache
def _executor() -> ThreadPoolExecutor:
    """Many decisions at once queue here instead of competing with the audio."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="smart-turn", initializer=_give_way)


def _give_way() -> None:
    """Let the event loop run first where both want the same core: audio waits for no decision."""
    if sys.platform == "linux":  # elsewhere it would be the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
