"""One Pipecat service in a real pipeline, with what comes out of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from pipecat.frames.frames import ErrorFrame, Frame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from tests.cloud.journal import Journal

SAMPLE_RATE = 16000
F = TypeVar("F", bound=Frame)


class _Tap(FrameProcessor):
    """Notes the frames that come by from the service and passes all on."""

    def __init__(self, seen: Journal[Frame]) -> None:
        super().__init__(enable_direct_mode=True)
        self._seen = seen

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if direction is FrameDirection.DOWNSTREAM:
            self._seen.append(frame)
        await self.push_frame(frame, direction)


class Rig:
    """A running pipeline of one service: what it said downstream, and its errors in order."""

    def __init__(self, service: FrameProcessor) -> None:
        self.frames: Journal[Frame] = Journal()
        self.errors: Journal[ErrorFrame] = Journal()
        self.worker = PipelineWorker(
            Pipeline([service, _Tap(self.frames)]),
            params=PipelineParams(audio_in_sample_rate=SAMPLE_RATE, audio_out_sample_rate=SAMPLE_RATE),
            idle_timeout_secs=None,
            enable_rtvi=False,  # its messages for web clients would mix with the service's frames
        )

    async def send(self, *frames: Frame) -> None:
        """Queue `frames` at the head of the pipeline."""
        for frame in frames:
            await self.worker.queue_frame(frame)

    async def find(self, kind: type[F], *, after: Frame | None = None) -> F:
        """The first frame of `kind` out of the service, behind `after` if given; waits for it up to 30 s."""
        frame = await self.frames.find(
            lambda f: (
                isinstance(f, kind) and (after is None or self.frames.index(f) > self.frames.index(after))
            )
        )
        assert isinstance(frame, kind)
        return frame

    def all(self, kind: type[F]) -> list[F]:
        """The frames of `kind` so far."""
        return [frame for frame in self.frames if isinstance(frame, kind)]


@asynccontextmanager
async def running(service: FrameProcessor) -> AsyncIterator[Rig]:
    """Run a pipeline of `service` alone, started; cancelled at the end, which must take less than 10 s."""
    rig = Rig(service)
    started = asyncio.Event()

    @rig.worker.event_handler("on_pipeline_error")
    async def on_pipeline_error(_worker: PipelineWorker, frame: ErrorFrame) -> None:
        rig.errors.append(frame)

    @rig.worker.event_handler("on_pipeline_started")
    async def on_pipeline_started(_worker: PipelineWorker, _frame: Frame) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(rig.worker)
    run = asyncio.create_task(runner.run())
    try:
        await asyncio.wait_for(started.wait(), timeout=30)
        yield rig
    finally:
        await rig.worker.cancel()
        await asyncio.wait_for(run, timeout=10)
