"""A real Pipecat pipeline around one service, with taps on both ends that a test can wait on."""

import asyncio
from contextlib import asynccontextmanager

from pipecat.frames.frames import EndFrame, InputAudioRawFrame, StartFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

HANG_SECONDS = 20
FRAME_BYTES = 640  # 20 ms at 16 kHz


class Tap(FrameProcessor):
    """Keeps every frame that passes in one direction and lets all of them through."""

    def __init__(self, direction):
        super().__init__(enable_direct_mode=True)
        self.frames = []
        self._direction = direction
        self._changed = asyncio.Condition()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if direction is self._direction:
            async with self._changed:
                self.frames.append(frame)
                self._changed.notify_all()
        await self.push_frame(frame, direction)

    def of(self, *types):
        """The frames of these types so far."""
        return [f for f in self.frames if isinstance(f, types)]

    async def until(self, condition):
        """Wait until `condition()` is true; it is checked whenever a frame comes."""
        async with asyncio.timeout(HANG_SECONDS), self._changed:
            await self._changed.wait_for(condition)

    async def first(self, frame_type, count=1):
        """Wait for the `count`th frame of a type and return it."""
        await self.until(lambda: len(self.of(frame_type)) >= count)
        return self.of(frame_type)[count - 1]


class Line:
    """A running pipeline: what came out of it downstream (`out`) and upstream (`back`)."""

    def __init__(self, worker, back, out):
        self.worker = worker
        self.back = back
        self.out = out

    async def send(self, *frames, direction=FrameDirection.DOWNSTREAM):
        for frame in frames:
            await self.worker.queue_frame(frame, direction)

    async def speak(self, pcm):
        """Send 16 kHz s16le audio in frames of 20 ms, as fast as they are taken."""
        await self.send(
            *(InputAudioRawFrame(pcm[i : i + FRAME_BYTES], 16000, 1) for i in range(0, len(pcm), FRAME_BYTES))
        )


@asynccontextmanager
async def running(*processors):
    """Run a pipeline of the processors until the block ends, then end it gracefully."""
    back, out = Tap(FrameDirection.UPSTREAM), Tap(FrameDirection.DOWNSTREAM)
    worker = PipelineWorker(
        Pipeline([back, *processors, out]),
        cancel_on_idle_timeout=False,
        enable_rtvi=False,
        params=PipelineParams(
            audio_in_sample_rate=16000,
            audio_out_sample_rate=16000,
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
    )
    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    run = asyncio.create_task(runner.run())
    try:
        await out.first(StartFrame)
        yield Line(worker, back, out)
        await worker.queue_frame(EndFrame())
        await asyncio.wait_for(asyncio.shield(run), HANG_SECONDS)
    finally:
        if not run.done():
            await worker.cancel()
            await asyncio.wait_for(run, HANG_SECONDS)
