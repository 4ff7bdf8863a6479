"""The RustPBX transport: the caller's frames in, the agent's voice out at telephone pace.

RustPBX plays each message as one 20 ms packet and can neither buffer, pace nor forget one. So the output
sends exactly 20 ms at a time, by a clock that does not drift, and nothing ahead of it: what was sent will be
heard.
"""

import asyncio
from collections.abc import Awaitable, Callable

from pipecat.frames.frames import (
    InputAudioRawFrame,
    OutputAudioRawFrame,
    StartFrame,
)
from pipecat.transports.base_input import BaseInputTransport
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import BaseTransport, TransportParams

from calls.protocol import FRAME_MS, SAMPLE_RATE

INPUT_BYTES = 1024  # 32 ms: what the VAD judges at once, so that no processor wakes up for less
FRAME_S = FRAME_MS / 1000
# Behind the clock by more than this, the clock starts anew: catching up would be a burst.
MOST_BEHIND_S = 0.060

SendAudio = Callable[[bytes], Awaitable[None]]
"""Sends 640 bytes of the agent's voice (20 ms, s16le at 16 kHz) to the client."""


class RustPBXInput(BaseInputTransport):
    """The caller's voice. The socket's reader feeds it; there is no task and no queue of its own."""

    def __init__(self, params: TransportParams) -> None:
        super().__init__(params)
        self._pcm = bytearray()

    async def feed(self, pcm: bytes) -> None:
        """Take s16le audio at 16 kHz of any length and pass it on in pieces of 32 ms."""
        self._pcm += pcm
        while len(self._pcm) >= INPUT_BYTES:
            piece = bytes(self._pcm[:INPUT_BYTES])
            del self._pcm[:INPUT_BYTES]
            await self.push_frame(InputAudioRawFrame(piece, SAMPLE_RATE, 1))


class RustPBXOutput(BaseOutputTransport):
    """The agent's voice, 20 ms every 20 ms."""

    def __init__(self, params: TransportParams, send_audio: SendAudio) -> None:
        super().__init__(params)
        self._send_audio = send_audio
        self._due = 0.0  # when the next frame is to go out, on the loop's clock

    async def start(self, frame: StartFrame) -> None:
        """Start to accept audio."""
        await super().start(frame)
        await self.set_transport_ready(frame)

    async def write_audio_frame(self, frame: OutputAudioRawFrame) -> bool:
        """Send one frame when its time has come."""
        loop = asyncio.get_running_loop()
        wait = self._due - loop.time()
        if wait > 0:
            await asyncio.sleep(wait)
        elif wait < -MOST_BEHIND_S:
            self._due = loop.time()  # a new talkspurt, or a stall too long to make up
        self._due += FRAME_S
        await self._send_audio(frame.audio)
        return True


class RustPBXTransport(BaseTransport):
    """Both ends of one call.

    Args:
        send_audio: sends 20 ms of the agent's voice to the client.
    """

    def __init__(self, send_audio: SendAudio) -> None:
        super().__init__()
        params = TransportParams(
            audio_in_enabled=True,
            audio_in_sample_rate=SAMPLE_RATE,
            audio_out_enabled=True,
            audio_out_sample_rate=SAMPLE_RATE,
            audio_out_10ms_chunks=FRAME_MS // 10,
            audio_out_end_silence_secs=0,
        )
        self._input = RustPBXInput(params)
        self._output = RustPBXOutput(params, send_audio)

    def input(self) -> RustPBXInput:
        """The first processor of the pipeline."""
        return self._input

    def output(self) -> RustPBXOutput:
        """The processor behind text-to-speech."""
        return self._output
