"""The voice activity detection (VAD) of one call: whether the caller speaks.

`VoiceActivity` turns the verdicts on single windows into quiet, starting, speaking and stopping, as Pipecat's
VADAnalyzer does. `SharedSileroVAD` makes the verdicts, from the Silero model and from the window's energy. A
window that is too quiet to be speech does not go through the model. That also ends speech earlier: the model
takes some 50 ms after the end of a voice for speech, and every answer would have to wait for them.

Loudness is computed from the energy of the last 0.4 s, without the filters of ITU-R BS.1770 that Pipecat
applies: they cost half as much CPU as the model and change the loudness of speech by 2 dB at most.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from pipecat.audio.vad.vad_analyzer import VADParams, VADState

from calls.audio.format import SAMPLE_RATE
from calls.pipeline import silero
from calls.pipeline.silero import CONTEXT, WINDOW, RecurrentState

WINDOW_BYTES = WINDOW * 2
WINDOW_S = WINDOW / SAMPLE_RATE
FULL_SCALE = np.float32(1 / 32768)
MEAN_SQUARE = 1 / 32768**2 / WINDOW  # of a window, from its sum of squares
LOUDNESS_WINDOWS = 13  # 0.4 s, as in Pipecat
# Loudness as Pipecat scales it: 0 at -110 LUFS, 1 at -10; below the gate it is 0.
QUIET_LUFS, LOUD_LUFS, GATE_LUFS, OFFSET_LUFS = -110.0, -10.0, -70.0, -0.691
GATE = 10 ** ((GATE_LUFS - OFFSET_LUFS) / 10) * LOUDNESS_WINDOWS  # as a sum of mean squares
SMOOTHING = 0.2  # the weight of the newest window in the smoothed loudness; Pipecat's
# Windows below these are no speech: (loudness, mean square; full scale is 1). A caller on a bad line may be
# 30 dB quieter than others. The echo of the agent's voice is as loud as that, hence AS_USUAL while it speaks.
CLOSELY, AS_USUAL = (0.47, 10**-6.3), (0.6, 1e-5)
STILL = 10**-3.2  # −32 dB, relative to the speech's energy: quieter windows are no speech
SOFT = 10**-2.0  # −20 dB, relative to the same: louder windows may be speech, however faint the voice
FADING = 10**-0.032  # the factor per window by which the remembered energy of speech falls, 10 dB a second

QUIET, STARTING, SPEAKING, STOPPING = VADState
Judged = Callable[[bytes, VADState], None]
"""Called with a window and the state after it."""


class VoiceActivity:
    """Quiet, starting, speaking or stopping, from the verdict on each window of 32 ms. Pure.

    Speech has started after `start_secs` in which every window was speech, and has stopped after `stop_secs`
    in which none was. The same transitions, window by window, as Pipecat's VADAnalyzer.

    Attributes:
        state: after the last window.
        min_loudness: windows below it, from 0 to 1, are no speech. May be changed at any time.
    """

    def __init__(self, params: VADParams) -> None:
        self.state = QUIET
        self.min_loudness = params.min_volume
        self._min_confidence = params.confidence
        self._start_windows = round(params.start_secs / WINDOW_S)
        self._stop_windows = round(params.stop_secs / WINDOW_S)
        self._windows = 0  # so far in starting or stopping
        self._loudness = 0.0  # smoothed

    def update(self, confidence: float, loudness: float) -> VADState:
        """The state after one more window.

        Args:
            confidence: the model's, from 0 to 1, that the window is speech.
            loudness: from 0 to 1, of the 0.4 s up to the window's end.
        """
        self._loudness += SMOOTHING * (loudness - self._loudness)
        is_speech = confidence >= self._min_confidence and self._loudness >= self.min_loudness
        if self.state in (QUIET, STARTING):
            if is_speech:
                self._count(STARTING, self._start_windows, then=SPEAKING)
            else:
                self.state = QUIET
        elif is_speech:
            self.state = SPEAKING
        else:
            self._count(STOPPING, self._stop_windows, then=QUIET)
        return self.state

    def _count(self, change: VADState, windows: int, *, then: VADState) -> None:
        """Count a window in the state `change`; after `windows` of them the state is `then`."""
        self._windows = self._windows + 1 if self.state is change else 1
        self.state = then if self._windows >= windows else change


class SharedSileroVAD:
    """One call's voice activity detection, on the Silero model that all calls share.

    Args:
        params: thresholds and times. None: Pipecat's, and faint speech counts, too (see `listen`).

    Attributes:
        params: as given.
        confidence: from 0 to 1, that the last window was speech; 0 if it did not go through the model.
    """

    def __init__(self, params: VADParams | None = None) -> None:
        self.params = params or VADParams()
        self.confidence = 0.0
        self._activity = VoiceActivity(self.params)
        self._memory = RecurrentState()
        self._faint = AS_USUAL[1]
        self._energies: deque[float] = deque(maxlen=LOUDNESS_WINDOWS)  # mean squares, full scale is 1
        self._speech_energy = 0.0  # of the loudest window of speech, falling with time (FADING)
        self._in_batches = 0  # windows that wait for the model
        self._passed_over = b""  # the last window, if it did not go through the model
        if params is None:
            self.listen(closely=True)

    def listen(self, *, closely: bool) -> None:
        """From now on, let faint speech count (`closely`) or only speech of the usual loudness."""
        self._activity.min_loudness, self._faint = CLOSELY if closely else AS_USUAL

    def judge(self, window: bytes, judged: Judged) -> None:
        """Judge 32 ms of s16le audio at 16 kHz. Call it in an event loop.

        `judged` is called with the window and the state after it, in the order of the windows: at once if the
        window is too quiet to be speech, else from the event loop within a few milliseconds.
        """
        samples = np.frombuffer(window, np.int16).astype(np.float32)
        energy = float(samples.dot(samples)) * MEAN_SQUARE
        if not self._in_batches and self._is_still(energy):
            self._passed_over = window
            judged(window, self._pass_over(energy))
            return
        self._in_batches += 1
        if self._passed_over:
            self._memory.follow(np.frombuffer(self._passed_over[-CONTEXT * 2 :], np.int16) * FULL_SCALE)
            self._passed_over = b""
        samples *= FULL_SCALE

        def on_verdict(confidence: float) -> None:
            judged(window, self._on_verdict(confidence, energy))

        silero.judge(silero.Item(self._memory, samples, on_verdict))

    def _is_still(self, energy: float) -> bool:
        """Whether a window is too quiet to be speech, so that the model need not judge it.

        While somebody speaks, it is compared with their own loudness. When speech may just have started, no
        window is too quiet, as soft sounds belong to speech.
        """
        state = self._activity.state
        if state is QUIET:
            return energy < self._faint
        if state is STARTING:
            return False
        usual = min(AS_USUAL[1], SOFT * self._speech_energy)  # lower for a faint voice
        return energy < max(self._faint, usual, STILL * self._speech_energy)

    def _pass_over(self, energy: float) -> VADState:
        """The state after a window that is no speech and does not go through the model."""
        self._speech_energy *= FADING
        self.confidence = 0.0
        if self._activity.state is not QUIET:
            self._memory.reset_if_due(0.0, quiet=False)
        return self._update(energy)

    def _on_verdict(self, confidence: float, energy: float) -> VADState:
        """The state after a window that the model has judged."""
        self._in_batches -= 1
        self.confidence = 0.0 if self._is_still(energy) else confidence
        self._speech_energy *= FADING
        if self.confidence >= self.params.confidence:
            self._speech_energy = max(self._speech_energy, energy)
        self._memory.reset_if_due(self.confidence, quiet=self._activity.state is QUIET)
        return self._update(energy)

    def _update(self, energy: float) -> VADState:
        self._energies.append(energy)
        return self._activity.update(self.confidence, loudness(self._energies))


def loudness(energies: Sequence[float]) -> float:
    """Loudness from 0 to 1, from the mean squares of the last 0.4 s of windows; 0 for fewer windows."""
    if len(energies) < LOUDNESS_WINDOWS or (energy := sum(energies)) < GATE:
        return 0.0
    lufs = OFFSET_LUFS + 10 * math.log10(energy / LOUDNESS_WINDOWS)
    return max(0.0, min(1.0, (lufs - QUIET_LUFS) / (LOUD_LUFS - QUIET_LUFS)))
