"""The baseline: Pipecat used the usual way, with its FastAPI WebSocket transport under uvicorn.

`python -m benchmarks.serve_baseline uvicorn PORT PROBE`. It is written like Pipecat's examples, with its
defaults, except that only warnings are logged, as in this project's server, and that the sample rate is
RustPBX's. A serializer translates RustPBX's protocol.
"""

import json
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import Frame, InputAudioRawFrame, OutputAudioRawFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from benchmarks.figures import GREETING
from benchmarks.probe import Probe, measured
from benchmarks.providers import SAMPLE_RATE, FixedLLM, FixedSTT, FixedTTS

app = FastAPI()
heard_bytes = 0


class RustPBXSerializer(FrameSerializer):
    """Reads binary audio and writes JSON audio; other messages are dropped in both directions."""

    def __init__(self) -> None:
        super().__init__()
        self._sent = 0

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """The `audio` message of a frame of the agent's voice."""
        if not isinstance(frame, OutputAudioRawFrame):
            return None
        self._sent += 1
        return json.dumps(
            {
                "type": "audio",
                "audio_data": list(frame.audio),
                "sample_rate": frame.sample_rate,
                "channels": frame.num_channels,
                "frame_id": str(self._sent),
            }
        )

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """The caller's voice."""
        global heard_bytes  # noqa: PLW0603  one count for the process
        if isinstance(data, str):
            return None
        heard_bytes += len(data)
        return InputAudioRawFrame(audio=data, sample_rate=SAMPLE_RATE, num_channels=1)


@app.websocket("/ws/rustpbx")
async def call(websocket: WebSocket) -> None:
    """Serve one call, from the WebSocket handshake to its end."""
    await websocket.accept()
    params = FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=RustPBXSerializer()
    )
    transport = FastAPIWebsocketTransport(websocket=websocket, params=params)
    context = LLMContext([{"role": "system", "content": "You are a friendly receptionist."}])
    aggregators = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    pipeline = Pipeline(
        [
            transport.input(),
            FixedSTT(),
            aggregators.user(),
            FixedLLM(),
            FixedTTS(),
            transport.output(),
            aggregators.assistant(),
        ]
    )
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=SAMPLE_RATE,
            audio_out_sample_rate=SAMPLE_RATE,
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
    )

    @transport.event_handler("on_client_connected")
    async def greet(_transport: FastAPIWebsocketTransport, _websocket: WebSocket) -> None:
        await worker.queue_frames([TTSSpeakFrame(GREETING)])

    @transport.event_handler("on_client_disconnected")
    async def hang_up(_transport: FastAPIWebsocketTransport, _websocket: WebSocket) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


async def _heard() -> float:
    return heard_bytes / (2 * SAMPLE_RATE)


def main() -> None:
    """Serve until a signal."""
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    port, probe = int(sys.argv[2]), Probe(Path(sys.argv[3]), _heard)
    uvicorn.run(measured(app, probe), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main()
