"""Pushes the caller's voice into the pipeline, and frames when speech starts, pauses and stops."""

import asyncio
from collections.abc import Callable

from pipecat.audio.vad.vad_analyzer import VADState
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    Frame,
    InputAudioRawFrame,
    StartFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_transport import TransportParams

from calls.audio.format import SAMPLE_RATE
from calls.pipeline.vad import WINDOW_BYTES, SharedSileroVAD
from calls.providers.frames import CallerPausedFrame

PIECE_BYTES = 4 * WINDOW_BYTES  # 128 ms: processors wake up eight times a second instead of thirty
QUIET_PIECE_BYTES = 2 * PIECE_BYTES  # while the caller is silent
PAUSED_WINDOWS = 3  # silent windows, 96 ms, that make a pause; the end of speech takes 200 ms
MUTED_S = 1.0  # speech has stopped if no audio at all comes for this long


class RustPBXInput(BaseInputTransport):
    """Runs voice activity detection (VAD) on the caller's voice, and pushes the voice and what was detected.

    The VAD runs before the pipeline. It judges each window of 32 ms as it comes, on the event loop, in one
    run of the model with the windows of other calls. Judged audio is pushed in larger pieces. When speech
    starts, pauses or stops, the audio up to that moment is pushed first, and then the frame that says so.

    Args:
        vad: the VAD of this call.
        clean: takes noise out of the voice before anything hears it; None: nothing does.
    """

    def __init__(self, vad: SharedSileroVAD, clean: Callable[[bytes], bytes] | None = None) -> None:
        params = TransportParams(audio_in_enabled=True, audio_in_sample_rate=SAMPLE_RATE)
        super().__init__(params, enable_direct_mode=True)
        self._vad = vad
        self._clean = clean
        self._unheard = bytearray()  # not judged yet: less than a window
        self._heard = bytearray()  # judged and not pushed yet: less than a piece
        self._speaking = False
        self._silent_windows = 0  # in a row, while the state is STOPPING
        self._fed_at = 0.0
        self._loop = asyncio.get_running_loop()
        # Frames wait here until the pipeline has started, which takes a bounded time.
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._pushing: asyncio.Task[None] | None = None

    def feed(self, pcm: bytes) -> None:
        """Take s16le audio at 16 kHz of any length. Never waits."""
        self._fed_at = self._loop.time()
        self._unheard += self._clean(pcm) if self._clean else pcm
        while len(self._unheard) >= WINDOW_BYTES:
            window = bytes(self._unheard[:WINDOW_BYTES])
            del self._unheard[:WINDOW_BYTES]
            self._vad.judge(window, self._judged)

    async def start(self, frame: StartFrame) -> None:
        """Push what has been queued, and from now on what comes: the pipeline has started."""
        await super().start(frame)
        self._pushing = self.create_task(self._push())

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Let faint speech count only while the agent is silent: the echo of its voice is faint, too."""
        if isinstance(frame, (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)):
            self._vad.listen(closely=isinstance(frame, BotStoppedSpeakingFrame))
        await super().process_frame(frame, direction)

    async def cleanup(self) -> None:
        """Stop."""
        await super().cleanup()
        if self._pushing is not None:
            await self.cancel_task(self._pushing)

    async def _push(self) -> None:
        while True:
            await self.push_frame(await self._frames.get())

    def _judged(self, window: bytes, state: VADState) -> None:
        self._heard += window
        if state is VADState.SPEAKING and not self._speaking:
            self._let_go()
            self._speaking = True
            self._frames.put_nowait(VADUserStartedSpeakingFrame(start_secs=self._vad.params.start_secs))
            self._loop.call_later(MUTED_S, self._check_muted)
        elif state is VADState.QUIET and self._speaking:
            self._stopped()
        elif self._has_paused(state):
            self._let_go()
            self._frames.put_nowait(CallerPausedFrame())
        elif len(self._heard) >= (QUIET_PIECE_BYTES if state is VADState.QUIET else PIECE_BYTES):
            self._let_go()

    def _has_paused(self, state: VADState) -> bool:
        """Whether this window is the one that makes a silence in the caller's speech a pause."""
        self._silent_windows = self._silent_windows + 1 if state is VADState.STOPPING else 0
        return self._silent_windows == PAUSED_WINDOWS

    def _stopped(self) -> None:
        self._let_go()
        self._speaking = False
        self._frames.put_nowait(VADUserStoppedSpeakingFrame(stop_secs=self._vad.params.stop_secs))

    def _check_muted(self) -> None:
        silent = self._loop.time() - self._fed_at
        if self._speaking and silent >= MUTED_S:
            self._stopped()
        elif self._speaking:
            self._loop.call_later(MUTED_S - silent, self._check_muted)

    def _let_go(self) -> None:
        if self._heard:
            self._frames.put_nowait(InputAudioRawFrame(bytes(self._heard), SAMPLE_RATE, 1))
            self._heard.clear()
