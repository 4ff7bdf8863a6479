"""Cartesia's two WebSockets: speech-to-text, which hears what the test says, and text-to-speech."""

import asyncio
import base64
import json
import ssl
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.cloud.faults import Dropped, Faults
from tests.cloud.journal import Journal
from tests.cloud.voice import speak

KEY = "sk_car_made_up"
INTERIM_SECONDS = 0.3  # of sound, before the first guess
SOUND_LEVEL = 300  # the loudest sample of a message that counts as sound
CHUNK_SECONDS = 0.1


@dataclass
class Session:
    """One connection: its handshake and what the client sent."""

    query: dict[str, str]
    headers: dict[str, str]
    audio: bytearray = field(default_factory=bytearray)
    commands: Journal[str] = field(default_factory=Journal)


class _Server:
    """A WebSocket endpoint with a key, faults, and a journal of sessions."""

    path = ""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.faults = Faults()
        self.sessions: Journal[Session] = Journal()
        self.refusals: Journal[int] = Journal()
        self._connections: set[ServerConnection] = set()
        self._port = 0

    def drop_all(self) -> None:
        """Drop the connections that are open now."""
        for connection in self._connections:
            connection.transport.abort()

    @asynccontextmanager
    async def _listen(self) -> AsyncIterator[str]:
        """Serve on a free port of the loopback address, then on the same; gives `ws(s)://host:port`."""
        async with serve(
            self._handle,
            "127.0.0.1",
            self._port,
            process_request=self._admit,
            close_timeout=0.2,
            ssl=self.tls,
        ) as server:
            self._port = server.sockets[0].getsockname()[1]
            scheme = "wss" if self.tls else "ws"
            yield f"{scheme}://127.0.0.1:{self._port}"

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse the handshake for a fault, a wrong key or another path."""
        status = self.faults.refusal
        if status is None and request.headers.get("X-API-Key") != KEY:
            status = HTTPStatus.UNAUTHORIZED
        if status is None and urlsplit(request.path).path != self.path:
            status = HTTPStatus.NOT_FOUND
        if status is None:
            return None
        self.refusals.append(int(status))
        return connection.respond(HTTPStatus(status), "refused\n")

    async def _handle(self, connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None  # the handshake is over
        session = Session(dict(parse_qsl(urlsplit(request.path).query)), dict(request.headers.raw_items()))
        self.sessions.append(session)
        self._connections.add(connection)
        try:
            with suppress(ConnectionClosed):
                await self._converse(connection, session)
        finally:
            self._connections.discard(connection)

    async def _converse(self, connection: ServerConnection, session: Session) -> None:
        raise NotImplementedError


class SpeechToText(_Server):
    """`/stt/websocket`: each `finalize` brings the next of `texts`, then nothing but empty transcripts.

    Half of the words come as an interim transcript once 0.3 s of sound arrived.
    """

    path = "/stt/websocket"

    def __init__(self, *texts: str, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.texts = deque(texts)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; gives the base URL, without a path."""
        async with self._listen() as url:
            yield url

    async def _converse(self, connection: ServerConnection, session: Session) -> None:
        utterance = _Utterance(int(session.query["sample_rate"]))
        answers: asyncio.Queue[_Answer] = asyncio.Queue()
        # Answers wait in a task of their own: a slow or mute server goes on reading.
        async with _background(connection, self._answer(connection, answers)):
            async for message in connection:
                if isinstance(message, bytes):
                    session.audio += message
                    if self.texts and utterance.hears_enough(message) and not self.faults.mute:
                        answers.put_nowait(_Answer(utterance, "interim", self.texts[0]))
                    continue
                session.commands.append(message)
                if message == "finalize":
                    text = self.texts.popleft() if self.texts else ""
                    if not self.faults.mute:
                        answers.put_nowait(_Answer(utterance, "final", text))
                    utterance = _Utterance(utterance.sample_rate)
                elif message == "done":
                    await connection.send(json.dumps({"type": "done"}))
                    return

    async def _answer(self, connection: ServerConnection, answers: "asyncio.Queue[_Answer]") -> None:
        """Send the transcripts as they come up; the faults may stop it."""
        while True:
            answer = await answers.get()
            if answer.utterance.transcripts == 0:
                await self.faults.before_answer()
            self.faults.before_chunk(answer.utterance.transcripts)
            answer.utterance.transcripts += 1
            await connection.send(json.dumps(answer.message()))
            if answer.kind == "final":
                await connection.send(json.dumps({"type": "flush_done"}))


@dataclass
class _Utterance:
    """What was heard and said since the last `finalize`."""

    sample_rate: int
    sound: float = 0.0
    guessed: bool = False
    transcripts: int = 0

    def hears_enough(self, audio: bytes) -> bool:
        """Whether this `audio` (s16le) is what completes the sound needed for a guess."""
        samples = np.frombuffer(audio, "<i2").astype(int)
        if samples.size and abs(samples).max() >= SOUND_LEVEL:
            self.sound += samples.size / self.sample_rate
        first_time = not self.guessed and self.sound >= INTERIM_SECONDS
        self.guessed = self.guessed or first_time
        return first_time


@dataclass(frozen=True)
class _Answer:
    """A transcript to be sent: of all of `text`, or of its first half while the speaker goes on."""

    utterance: _Utterance
    kind: Literal["interim", "final"]
    text: str

    def message(self) -> dict[str, Any]:
        """The transcript as it goes over the wire."""
        words = self.text.split()
        text = self.text if self.kind == "final" else " ".join(words[: len(words) // 2])
        return {"type": "transcript", "text": text, "is_final": self.kind == "final", "language": "en"}


class TextToSpeech(_Server):
    """`/tts/websocket`: speaks each context's transcripts one after the other, with their words' times."""

    path = "/tts/websocket"

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(tls)
        self.requests: Journal[dict[str, Any]] = Journal()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        """Serve; gives the whole URL."""
        async with self._listen() as url:
            yield url + self.path

    async def _converse(self, connection: ServerConnection, session: Session) -> None:
        contexts: dict[str, asyncio.Queue[dict[str, Any]]] = {}
        async with AsyncExitStack() as speaking:
            tasks: dict[str, asyncio.Task[None]] = {}
            async for message in connection:
                request = json.loads(message)
                self.requests.append(request)
                context = request["context_id"]
                if request.get("cancel"):
                    if task := tasks.get(context):
                        task.cancel()
                    continue
                if context not in contexts:
                    contexts[context] = asyncio.Queue()
                    speech = self._speak(connection, contexts[context])
                    tasks[context] = await speaking.enter_async_context(_background(connection, speech))
                contexts[context].put_nowait(request)

    async def _speak(self, connection: ServerConnection, requests: asyncio.Queue[dict[str, Any]]) -> None:
        """Answer the requests of one context until its last; the faults may stop it."""
        start, sent = 0.0, 0
        while True:
            request = await requests.get()
            if sent == 0:
                await self.faults.before_answer()
            if request["transcript"]:
                seconds, sent = await self._say(connection, request, start, sent)
                start += seconds
            if not request["continue"]:
                await _send(connection, request, type="done", done=True)
                return

    async def _say(
        self, connection: ServerConnection, request: dict[str, Any], start: float, sent: int
    ) -> tuple[float, int]:
        """Send one transcript's speech; returns its length in seconds and the context's chunks so far."""
        rate = request["output_format"]["sample_rate"]
        audio = await asyncio.to_thread(speak, request["transcript"], rate)
        seconds = len(audio) / 2 / rate
        await _send(
            connection,
            request,
            type="timestamps",
            done=False,
            word_timestamps=_word_times(request["transcript"].split(), start, seconds),
        )
        step = int(rate * CHUNK_SECONDS) * 2
        for begin in range(0, len(audio), step):
            self.faults.before_chunk(sent)
            data = base64.b64encode(audio[begin : begin + step]).decode()
            await _send(connection, request, type="chunk", done=False, data=data)
            sent += 1
        return seconds, sent


@asynccontextmanager
async def at_one_address(*servers: _Server) -> AsyncIterator[str]:
    """Serve several on one free port, each at its path; gives the base URL, without a path."""
    by_path = {server.path: server for server in servers}

    def server_of(path: str) -> _Server:
        return by_path[urlsplit(path).path]

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None  # the handshake is over
        await server_of(connection.request.path)._handle(connection)

    def admit(connection: ServerConnection, request: Request) -> Response | None:
        return server_of(request.path)._admit(connection, request)

    async with serve(handle, "127.0.0.1", 0, process_request=admit, close_timeout=0.2) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@asynccontextmanager
async def _background(
    connection: ServerConnection, answers: Coroutine[Any, Any, None]
) -> AsyncIterator[asyncio.Task[None]]:
    """Run `answers` beside the body, at most as long; a fault in it ends the connection without a goodbye."""

    async def send_answers() -> None:
        try:
            await answers
        except ConnectionClosed:
            pass
        except Dropped:
            # Not abort(): with the client's audio unread, that would discard what was sent to it, too.
            connection.transport.write_eof()

    task = asyncio.create_task(send_answers())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _send(connection: ServerConnection, request: dict[str, Any], **message: Any) -> None:
    """Send one message of the context that `request` belongs to."""
    await connection.send(json.dumps({**message, "context_id": request["context_id"], "status_code": 206}))


def _word_times(words: list[str], start: float, seconds: float) -> dict[str, list[Any]]:
    """The words' starts and ends in seconds, as if a word took as long as it is written."""
    ends = start + np.cumsum([len(word) for word in words]) * seconds / len("".join(words))
    starts = [start, *ends[:-1]]
    return {"words": words, "start": [float(at) for at in starts], "end": ends.tolist()}
