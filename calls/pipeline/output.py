"""Sends the agent's voice to the client in real time.

RustPBX plays each message as one 20 ms packet, at once, and cannot take one back. So the output sends exactly
20 ms at a time, by a clock that does not drift, and nothing early: what was sent will be heard.

It does not use Pipecat's BaseOutputTransport, which makes two tasks for each 20 ms of voice (`wait_for`) and
passes every frame of voice on to processors that ignore it.
"""

import asyncio

from pipecat.audio.resamplers.base_audio_resampler import BaseAudioResampler
from pipecat.audio.utils import create_stream_resampler
from pipecat.frames.frames import (
    AggregatedTextProgressFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    MetricsFrame,
    OutputAudioRawFrame,
    StartFrame,
    SystemFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor, FrameProcessorSetup

from calls.audio.format import AS_A_TELEPHONE, VoiceOut, frame_bytes
from calls.pipeline.playout import Playout, SendAudio
from calls.providers.frames import SpokenFrame


class RustPBXOutput(FrameProcessor):
    """Sends 20 ms of voice every 20 ms, and broadcasts frames when the agent starts and stops to speak.

    Args:
        send_audio: sends 20 ms of the agent's voice to the client.
        voice: how the voice is sent.
    """

    def __init__(self, send_audio: SendAudio, voice: VoiceOut = AS_A_TELEPHONE) -> None:
        super().__init__(enable_direct_mode=True)
        self._rate = voice.rate
        self._playout = Playout(
            send_audio,
            self._release,
            self._start_speaking,
            self._stop_speaking,
            self._now,
            frame_bytes=frame_bytes(voice.rate),
            lead_s=voice.lead_s,
        )
        self._speaking = False
        self._tasks: list[asyncio.Task[None]] = []  # none if the call ends before its pipeline is set up
        self._resampler: BaseAudioResampler | None = None

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as Pipecat's does
        """Start the tasks that send voice and push frames."""
        await super().setup(setup)
        self._tasks = [self.create_task(self._playout.play()), self.create_task(self._playout.keep_time())]

    async def cleanup(self) -> None:
        """Stop; what is still queued is dropped."""
        await super().cleanup()
        for task in self._tasks:
            await self.cancel_task(task)

    async def silence(self) -> None:
        """Say nothing more, whether it may be interrupted or not."""
        self._playout.silence()
        await self._stop_speaking()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Queue voice and the frames that keep their place in it; push the others at once."""
        await super().process_frame(frame, direction)
        if direction is FrameDirection.UPSTREAM:
            await self.push_frame(frame, direction)
        elif isinstance(frame, OutputAudioRawFrame):
            await self._queue_voice(frame)
        elif isinstance(frame, InterruptionFrame):
            await self.push_frame(frame, direction)
            await self._interrupted()
        elif isinstance(frame, (MetricsFrame, AggregatedTextProgressFrame)):
            pass  # no later processor uses them; the observer takes them where they are made
        elif isinstance(frame, (StartFrame, SystemFrame)):
            if isinstance(frame, CancelFrame):
                self._playout.interrupt()
            await self.push_frame(frame, direction)
        elif isinstance(frame, EndFrame):
            await self._playout.drained()
            await self.push_frame(frame, direction)
        elif isinstance(frame, TTSStoppedFrame):
            await self._queue_end_of_voice(frame)
        elif frame.pts:
            self._playout.timed(frame, frame.pts)
        else:
            self._playout.frame(frame)

    async def _queue_voice(self, frame: OutputAudioRawFrame) -> None:
        pcm = frame.audio
        if frame.sample_rate != self._rate:  # a service that cannot speak at this rate
            self._resampler = self._resampler or create_stream_resampler(clear_after_secs=None)
            pcm = await self._resampler.resample(pcm, frame.sample_rate, self._rate)
        self._playout.voice(pcm, interruptible=frame.interruptible)

    async def _queue_end_of_voice(self, frame: TTSStoppedFrame) -> None:
        if self._resampler is not None:
            self._playout.voice(await self._resampler.flush(), interruptible=frame.interruptible)
        self._playout.end_of_voice()
        self._playout.frame(frame)

    async def _interrupted(self) -> None:
        if self._playout.interrupt():
            return  # voice that may not be interrupted is left
        if self._resampler is not None:
            await self._resampler.reset()
        await self._stop_speaking()

    def _now(self) -> int:
        return self.get_clock().get_time()

    async def _release(self, frame: Frame) -> None:
        if isinstance(frame, TTSStoppedFrame):
            await self._stop_speaking()
        elif isinstance(frame, SpokenFrame):
            frame.spoken.set()
        await self.push_frame(frame)

    async def _start_speaking(self) -> None:
        self._speaking = True
        await self.broadcast_frame(BotStartedSpeakingFrame)

    async def _stop_speaking(self) -> None:
        self._playout.stopped()
        if self._speaking:
            self._speaking = False
            await self.broadcast_frame(BotStoppedSpeakingFrame)
