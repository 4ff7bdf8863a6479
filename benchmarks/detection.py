"""How long Silero itself takes to hear that speech has stopped: the part of a turn that no server can save.

Measured beforehand, on the very audio the callers send, by Pipecat's own analyser with its defaults.
"""

from collections.abc import Sequence
from statistics import mean

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Utterance

SAMPLE_RATE = 16_000
WINDOW_SAMPLES = 512  # 32 ms, what Silero judges at once
OFFSETS = range(0, WINDOW_SAMPLES, 128)  # where in the speech its windows begin is chance


def stop_delays(pcm: NDArray[np.int16], said: Sequence[Utterance]) -> list[float]:
    """Seconds from the true end of each utterance until Silero says that speech has stopped, on average."""
    found: list[list[float]] = [[] for _ in said]
    for offset in OFFSETS:
        for at in _stops(pcm[offset:]):
            stop = offset / SAMPLE_RATE + at
            ended = [number for number, one in enumerate(said) if one.end < stop]
            found[ended[-1]].append(stop - said[ended[-1]].end)
    return [mean(delays) for delays in found]


def _stops(pcm: NDArray[np.int16]) -> list[float]:
    # Loads a model: only when the delays are not known yet.
    from pipecat.audio.vad.silero import SileroVADAnalyzer
    from pipecat.audio.vad.vad_analyzer import VADState

    analyzer = SileroVADAnalyzer(sample_rate=SAMPLE_RATE)
    analyzer.set_sample_rate(SAMPLE_RATE)
    speaking, stops = False, []
    for start in range(0, len(pcm) - WINDOW_SAMPLES, WINDOW_SAMPLES):
        state = analyzer._run_analyzer(pcm[start : start + WINDOW_SAMPLES].tobytes())
        if speaking and state is VADState.QUIET:
            stops.append((start + WINDOW_SAMPLES) / SAMPLE_RATE)
        if state in (VADState.QUIET, VADState.SPEAKING):
            speaking = state is VADState.SPEAKING
    return stops
