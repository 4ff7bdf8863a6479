"""Smart turn: decides whether the caller has finished or only paused. All calls share one loaded model.

Pipecat's own analyser loads a model for each call and runs it with ONNX Runtime, where a decision takes 46 ms
of one core. OpenVINO takes 22 ms with the same file. Nothing else in a call takes as much CPU at once.
"""

import asyncio
import logging
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import as_file, files

import numpy as np
import openvino  # type: ignore[import-untyped]  # it has stubs, but does not say so
from numpy.typing import NDArray
from pipecat.audio.turn.base_turn_analyzer import BaseTurnAnalyzer, EndOfTurnState
from pipecat.audio.turn.smart_turn.base_smart_turn import SmartTurnParams
from pipecat.metrics.metrics import MetricsData, TurnMetricsData

from calls.audio.format import SAMPLE_RATE
from calls.pipeline.features import BANDS, STEPS, log_mel
from calls.providers.niceness import give_way

logger = logging.getLogger(__name__)

MODEL = files("pipecat.audio.turn.smart_turn.data") / "smart-turn-v3.2-cpu.onnx"
SURE = 0.5
# A decision takes 33 ms, and waits for those of other calls. On a machine that is not up to its calls they
# would gather, and with them each call's audio: a caller who has been silent for so long has finished.
DECIDED_WITHIN_S = 1.0
TOLD_EVERY_S = 60.0
FULL_SCALE = np.float32(1 / 32768)
# Half precision, the default where the processor supports it, is slower here because of its conversions.
OPTIONS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


def warm() -> None:
    """Load the model and run it once. Blocks for about a second."""
    _executor().submit(probability, np.zeros(SAMPLE_RATE, np.int16)).result()


class Turn:
    """The audio of one turn that the model is given: its last seconds, from shortly before the speech.

    Pipecat's BaseSmartTurn keeps the same audio, by the time when it came; here samples are counted. Pure.

    Args:
        params: the times; at most the last `max_duration_secs` are kept.
    """

    def __init__(self, params: SmartTurnParams) -> None:
        self._most = int(params.max_duration_secs * SAMPLE_RATE)
        self._pre_speech = params.pre_speech_ms / 1000 * SAMPLE_RATE
        self._silence_ends = params.stop_secs * SAMPLE_RATE
        self._pieces: deque[tuple[int, bytes]] = deque()  # each with its end, in samples since the beginning
        self._end = 0  # of the last piece
        self.clear()

    def clear(self) -> None:
        """Forget the turn and its audio."""
        self._pieces.clear()
        self._speech: int | None = None  # the end of the first piece with speech
        self._silence = 0  # samples since the last speech

    @property
    def has_speech(self) -> bool:
        """Whether somebody has spoken since the turn began."""
        return self._speech is not None

    def add(self, pcm: bytes, *, is_speech: bool) -> bool:
        """Add s16le audio. Return whether speech has been over for `stop_secs`, which ends the turn."""
        self._end += len(pcm) // 2
        self._pieces.append((self._end, pcm))
        while self._pieces[0][0] <= self._end - self._most:
            self._pieces.popleft()
        if is_speech:
            self._silence = 0
            if self._speech is None:
                self._speech = self._end
        elif self._speech is not None:
            self._silence += len(pcm) // 2
            return self._silence >= self._silence_ends
        return False

    def audio(self, vad_start_s: float) -> NDArray[np.int16]:
        """The audio to judge; if there was no speech, all audio that is kept.

        Args:
            vad_start_s: how long after speech starts this is detected, in seconds.
        """
        start = (self._speech or 0) - self._pre_speech - vad_start_s * SAMPLE_RATE
        pieces = [pcm for end, pcm in self._pieces if end >= start]
        return np.frombuffer(b"".join(pieces), np.int16)[-self._most :]


class SharedSmartTurn(BaseTurnAnalyzer):
    """Smart turn v3 for one call, on the shared model."""

    def __init__(self, params: SmartTurnParams | None = None) -> None:
        super().__init__(sample_rate=SAMPLE_RATE)
        self._limits = params or SmartTurnParams()
        self._turn = Turn(self._limits)
        self._vad_start_s = 0.0

    @property
    def speech_triggered(self) -> bool:
        """Whether somebody has spoken since the turn began."""
        return self._turn.has_speech

    @property
    def params(self) -> SmartTurnParams:
        """Times of the analysis."""
        return self._limits

    def update_vad_start_secs(self, vad_start_secs: float) -> None:
        """Set how long after speech starts this is detected, in seconds."""
        self._vad_start_s = vad_start_secs

    def append_audio(self, buffer: bytes, is_speech: bool) -> EndOfTurnState:
        """Add s16le audio at 16 kHz. COMPLETE after `stop_secs` of silence, without asking the model."""
        if not self._turn.add(buffer, is_speech=is_speech):
            return EndOfTurnState.INCOMPLETE
        self._turn.clear()
        return EndOfTurnState.COMPLETE

    async def analyze_end_of_turn(self) -> tuple[EndOfTurnState, MetricsData | None]:
        """Whether the turn is over after the audio so far, and how likely; None if it was not asked."""
        audio = self._turn.audio(self._vad_start_s)
        if not len(audio):
            return EndOfTurnState.INCOMPLETE, None
        try:
            async with asyncio.timeout(DECIDED_WITHIN_S):  # which also takes a decision back that waits yet
                sure, seconds = await asyncio.get_running_loop().run_in_executor(_executor(), _timed, audio)
        except TimeoutError:
            _tell_that_it_is_late()
            self._turn.clear()
            return EndOfTurnState.COMPLETE, None
        if is_complete := sure > SURE:
            self._turn.clear()
        metrics = TurnMetricsData(
            processor=type(self).__name__,
            is_complete=is_complete,
            probability=sure,
            e2e_processing_time_ms=seconds * 1000,
        )
        return (EndOfTurnState.COMPLETE if is_complete else EndOfTurnState.INCOMPLETE), metrics

    def clear(self) -> None:
        """Forget the turn and its audio."""
        self._turn.clear()


_told_at = -TOLD_EVERY_S


def _tell_that_it_is_late() -> None:
    global _told_at  # noqa: PLW0603  of the one log
    if time.monotonic() - _told_at >= TOLD_EVERY_S:
        _told_at = time.monotonic()
        logger.warning("smart turn did not decide within %g s: pauses end turns", DECIDED_WITHIN_S)


class _Model:
    """The model in OpenVINO. For use by one thread at a time: it has a single inference request."""

    def __init__(self) -> None:
        core = openvino.Core()
        with as_file(MODEL) as path:
            model = core.read_model(path)
        model.reshape([1, BANDS, STEPS])
        self._request = core.compile_model(model, "CPU", OPTIONS).create_infer_request()

    def finished(self, audio: NDArray[np.float32]) -> float:
        """The probability, from 0 to 1, that the speaker has finished. `audio`: 16 kHz, -1 to 1."""
        return float(self._request.infer([log_mel(audio)[np.newaxis]])[0].item())


def probability(audio: NDArray[np.int16]) -> float:
    """The probability, from 0 to 1, that the speaker has finished. Only for the thread of `_executor`."""
    return _model().finished(audio.astype(np.float32) * FULL_SCALE)


def _timed(audio: NDArray[np.int16]) -> tuple[float, float]:
    """The probability, and the seconds it took."""
    start = time.perf_counter()
    return probability(audio), time.perf_counter() - start


@cache
def _model() -> _Model:
    return _Model()


@cache
def _executor() -> ThreadPoolExecutor:
    """One thread for all decisions, so that many at once queue up and do not compete with the audio."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="smart-turn", initializer=give_way)
