"""The socket of `/ws/rustpbx`: its life, its timers, and the wiring to a call. No parsing, no ORM."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any

import voiceagent
from calls.audio.format import BYTES_PER_SECOND
from calls.conversation.call import Call, Line
from calls.gateway import admission, proxies
from calls.gateway.limits import Bucket, Limits
from calls.gateway.reading import GATHER
from calls.models import EndReason, EventKind
from calls.pipeline.observer import now_ms
from calls.profiles.choosing import ChosenProfile, NoProfile, choose
from calls.recorder.writer import recorder
from calls.rustpbx import messages
from calls.rustpbx.messages import (
    Audio,
    Configure,
    Disconnect,
    ErrorCode,
    Ping,
    ProtocolError,
    Timed,
)
from calls.rustpbx.pacer import Pump

logger = logging.getLogger(__name__)

CONFIGURE_WITHIN_S = 2.0  # of the first audio; then the default profile answers
IDLE_S = 30.0
EARLY_AUDIO_BYTES = 5 * BYTES_PER_SECOND  # kept until the call starts
OUTBOX_MESSAGES = 2048  # more than this unsent, a burst's answers included: the client does not read
MESSAGES_IN_A_ROW = 64  # read without letting other calls have their turn
CONFIGURES_AT_ONCE, CONFIGURES_PER_S = 8, 1.0
ERRORS_AT_ONCE, ERRORS_PER_S = 20, 5.0
NORMAL, GOING_AWAY, ABUSE, INTERNAL = 1000, 1001, 1008, 1011  # close codes of RFC 6455

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

live: set["Connection"] = set()
"""The connections of this process."""


async def shutdown(timeout: float = 2.5) -> None:
    """End every call of this process and wait until they are gone, at most `timeout` seconds."""
    connections = list(live)
    for connection in connections:
        connection.stop(EndReason.SHUTDOWN, GOING_AWAY)
    if connections:
        waiting = [asyncio.create_task(connection.over.wait()) for connection in connections]
        await asyncio.wait(waiting, timeout=timeout)
        for task in waiting:
            task.cancel()


class Connection:
    """The server's side of one open socket."""

    def __init__(self, scope: dict[str, Any], send: Send) -> None:
        self.over = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._send = send
        self._query = admission.query_of(scope)
        self._binary_audio = self._query.get("audio") == "binary"
        self._line = Line(self._tell, self._send_audio, self._fail, proxies.client_address(scope))
        self._outbox: asyncio.Queue[str] = asyncio.Queue(OUTBOX_MESSAGES)
        self._limits = Limits(now)
        self._configures = Bucket.full(CONFIGURES_PER_S, CONFIGURES_AT_ONCE, now)
        self._errors = Bucket.full(ERRORS_PER_S, ERRORS_AT_ONCE, now)
        self._pump = Pump(now)
        self._gather: Callable[[int, float], None] | None = scope.get("extensions", {}).get(GATHER)
        self._poll_at = now
        self._last_message = now
        self._json_audio = False
        self._call: Call | None = None
        self._starting = False
        self._configured = False  # by the client: audio may start the call before
        self._reconfigured: list[Configure] = []  # while the call was starting
        self._early_audio = bytearray()
        self._frames_sent = 0
        self._end: tuple[EndReason, int] | None = None
        self._error = ""
        self._gone = False  # the socket is closed
        self._reader: asyncio.Task[Any] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self, receive: Receive) -> None:
        """Serve the client until one side ends the call. Leaves nothing running."""
        self._reader = asyncio.current_task()
        self._sender = asyncio.create_task(self._send_outbox(), name="outbox")
        version = voiceagent.__version__
        self._tell(messages.Connected(timestamp=now_ms(), server="voiceagent", version=version))
        self._plan_poll(self._loop.time())
        self._timers["idle"] = self._loop.call_later(IDLE_S, self._check_idle)
        reason, code = EndReason.CLOSED, NORMAL
        try:
            await self._read(receive)
        except asyncio.CancelledError:
            if self._end is None:  # the server itself is going down
                reason = EndReason.SHUTDOWN
                raise
            self._reader.uncancel()  # type: ignore[union-attr]  # set above
        except Exception as e:
            logger.exception("a connection failed")
            self._error = f"{type(e).__name__}: {e}"
            reason, code = EndReason.ERROR, INTERNAL
        finally:
            self._end = self._end or (reason, code)  # from here on, nobody stops what is ending
            await self._finish(*self._end)

    def stop(self, reason: EndReason, code: int) -> None:
        """End the connection from our side; `run` returns soon after."""
        if self._end is None and not self.over.is_set():
            self._end = (reason, code)
            if self._reader is not None and self._reader is not asyncio.current_task():
                self._reader.cancel()  # the reader itself looks at _end after each message

    # --- Reading ------------------------------------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        for n in itertools.count(1):
            if n % MESSAGES_IN_A_ROW == 0:
                await asyncio.sleep(0)
            message = await receive()
            if message["type"] != "websocket.receive":
                self._gone = True
                if message.get("code") == ABUSE:
                    self._end = (EndReason.ABUSE, ABUSE)
                return
            now = self._last_message = self._loop.time()
            try:
                count = message.get("messages", 1)
                if not self._limits.messages(count, now):
                    raise ProtocolError(
                        ErrorCode.TOO_FAST, "expected at most 250 messages a second, got more"
                    )
                data = message.get("bytes")
                if data is not None:
                    self._on_audio(messages.decode_binary(data), count)
                else:
                    await self._on_message(messages.decode_text(message["text"]))
            except ProtocolError as e:
                self._tell_error(e.code, str(e))
            if self._limits.abused:
                self.stop(EndReason.ABUSE, ABUSE)
            if self._end is not None:
                return

    async def _on_message(self, message: messages.ClientMessage) -> None:
        match message:
            case Audio():
                self._json_audio = True
                self._on_audio(message)
            case Ping(timestamp):
                self._tell(messages.Pong(timestamp=timestamp))
            case Configure():
                await self._on_configure(message)
            case Disconnect():
                self._end = (EndReason.DISCONNECT, NORMAL)

    def _on_audio(self, audio: Audio, frames: int = 1) -> None:
        now = self._last_message
        seconds = len(audio.pcm) / BYTES_PER_SECOND
        if self._pump.frame(now, seconds, frames):
            self._ping()
        if self._pump.deadline < self._poll_at:
            self._timers["pump"].cancel()
            self._plan_poll(now)
        if not self._limits.audio(seconds, now):
            raise ProtocolError(ErrorCode.TOO_FAST, "expected audio at the pace of speech, got it faster")
        if self._call is not None:
            missing = self._call.hear(audio.pcm)
            if self._gather is not None:
                self._plan_read(now, -(-missing * frames // len(audio.pcm)))
            return
        if not self._starting and "configure" not in self._timers:
            self._timers["configure"] = self._loop.call_later(
                CONFIGURE_WITHIN_S, self._start_call, Configure(room_id="")
            )
        if len(self._early_audio) < EARLY_AUDIO_BYTES:
            self._early_audio += audio.pcm

    def _plan_read(self, now: float, frames: int) -> None:
        """Of a client that streams steadily, read no more until there is a window to judge."""
        at = self._pump.read_at(now, frames)
        if at is not None and self._gather is not None:
            self._gather(frames, at)

    async def _on_configure(self, configure: Configure) -> None:
        if not self._configures.take(1.0, self._loop.time()):
            raise ProtocolError(
                ErrorCode.TOO_FAST, "expected `configure` about once a second, got it more often"
            )
        if self._call is not None:
            await self._reconfigure(self._call, configure)
        elif self._starting:
            self._reconfigured.append(configure)
        else:
            self._configured = True
            self._start_call(configure)

    # --- The call -----------------------------------------------------------------------------------------

    def _start_call(self, configure: Configure) -> None:
        if self._starting or self.over.is_set():
            return
        self._starting = True
        if timer := self._timers.pop("configure", None):
            timer.cancel()
        self._spawn(self._start(self._completed(configure)))

    def _completed(self, configure: Configure) -> Configure:
        """The `configure` with what only the URL's query string says."""
        return replace(
            configure,
            profile=configure.profile or self._query.get("profile"),
            caller=configure.caller or self._query.get("caller"),
            callee=configure.callee or self._query.get("callee"),
            metadata=configure.metadata or self._metadata_of_url,
        )

    @cached_property
    def _metadata_of_url(self) -> dict[str, Any]:
        text = self._query.get("metadata", "{}")
        try:
            metadata = json.loads(text)
        except (ValueError, RecursionError):
            metadata = None
        if not isinstance(metadata, dict):
            self._tell_error(ErrorCode.BAD_VALUE, "expected metadata in the URL to be a JSON object")
            return {}
        return metadata

    async def _start(self, configure: Configure) -> None:
        """Choose the profile, build the call, greet. A failure ends the connection and says why."""
        try:
            chosen: ChosenProfile = await choose(configure.profile or "")
            call = self._call = Call(self._line, configure, chosen, recorder())
            if not chosen.found:
                message = f"expected a published profile, got {configure.profile!r}; the default one answers"
                self._tell_error(ErrorCode.NOT_FOUND, message)
            call.hear(bytes(self._early_audio))
            self._early_audio.clear()
            self._tell_configured(call)
            await call.start()
            for another in self._reconfigured:
                await self._reconfigure(call, another)
        except NoProfile as e:
            self._fail(str(e))
            return
        except Exception as e:
            logger.exception("a call could not be started")
            self._fail(f"the call could not be started: {type(e).__name__}")
            return
        self._timers["duration"] = self._loop.call_later(
            call.config.max_duration_s, lambda: self._spawn(self._say_goodbye(call))
        )

    async def _reconfigure(self, call: Call, configure: Configure) -> None:
        """Another `configure`, or the first one of a call that audio has started."""
        if not self._configured:
            self._configured = True
            call.describe(self._completed(configure))
            if configure.profile not in (None, "", call.profile):
                began, asked = call.profile, configure.profile
                message = f"expected profile {began!r}, with which the call has already begun, got {asked!r}"
                self._tell_error(ErrorCode.BAD_VALUE, message)
        await call.reconfigure(configure)
        self._tell_configured(call)

    async def _say_goodbye(self, call: Call) -> None:
        try:
            await call.say_goodbye()
        except Exception:
            logger.exception("a farewell could not be spoken")
        self.stop(EndReason.MAX_DURATION, NORMAL)

    def _fail(self, message: str) -> None:
        self._error = message
        self._tell_error(ErrorCode.INTERNAL, message)
        self.stop(EndReason.ERROR, INTERNAL)

    async def _finish(self, reason: EndReason, code: int) -> None:
        """Close the socket, end the call and our own tasks, all at once: two seconds at most."""
        for timer in self._timers.values():
            timer.cancel()
        for task in self._work:
            task.cancel()
        endings: list[Awaitable[object]] = [self._close(code)]
        if self._work:
            endings.append(asyncio.wait(set(self._work), timeout=1.0))
        if self._call is not None:
            endings.append(self._call.end(reason, self.generation, self._error))
        await asyncio.gather(*endings)
        self.over.set()

    async def _close(self, code: int) -> None:
        """Send what is left to say, an error for instance, and close the socket: 0.7 s at most."""
        if self._sender is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._outbox.join(), 0.2)
            self._sender.cancel()
            await asyncio.wait({self._sender})
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await self._send_now({"type": "websocket.close", "code": code})
        self._gone = True

    @property
    def generation(self) -> str:
        """The client's generation, as far as it showed."""
        return "json" if self._json_audio else self._pump.generation

    # --- Writing ------------------------------------------------------------------------------------------

    def _tell(self, message: Timed) -> None:
        """Queue a message. A client that has not read hundreds of them is not reading at all."""
        try:
            self._outbox.put_nowait(messages.encode(message))
        except asyncio.QueueFull:
            self._error = "the client does not read"
            self.stop(EndReason.ABUSE, ABUSE)

    def _tell_configured(self, call: Call) -> None:
        self._tell(messages.Configured(timestamp=now_ms(), call_id=str(call.id), status="ready"))

    def _tell_error(self, code: ErrorCode, message: str) -> None:
        """Tell the client, and store it on the call; too many in a row are neither told nor stored."""
        if not self._errors.take(1.0, self._loop.time()):
            return
        self._tell(messages.Error(timestamp=now_ms(), message=message, code=code))
        if self._call is not None:
            self._call.note(EventKind.ERROR, message, code=int(code))

    def _ping(self) -> None:
        self._tell(messages.ServerPing(timestamp=now_ms()))

    async def _send_outbox(self) -> None:
        while True:
            text = await self._outbox.get()
            await self._send_now({"type": "websocket.send", "text": text})
            self._outbox.task_done()

    async def _send_audio(self, pcm: bytes) -> None:
        self._frames_sent += 1
        if self._binary_audio:
            await self._send_now({"type": "websocket.send", "bytes": pcm})
        else:
            text = messages.encode_audio(pcm, str(self._frames_sent))
            await self._send_now({"type": "websocket.send", "text": text})

    async def _send_now(self, event: dict[str, Any]) -> None:
        if self._gone:
            return
        self._pump.sent(self._loop.time())
        try:
            await self._send(event)
        except Exception as e:  # each server has its own error for a socket that is gone
            logger.debug("a message could not be sent: %s: %s", type(e).__name__, e)

    # --- Timers -------------------------------------------------------------------------------------------

    def _poll_pump(self) -> None:
        now = self._loop.time()
        if self._gather is not None and now >= self._pump.deadline:
            self._gather(0, now)  # what is late may be here and wait for more
        if self._pump.poll(now):
            self._ping()
        self._plan_poll(now)

    def _plan_poll(self, now: float) -> None:
        self._poll_at = max(self._pump.deadline, now + 0.001)
        self._timers["pump"] = self._loop.call_at(self._poll_at, self._poll_pump)

    def _check_idle(self) -> None:
        silent = self._loop.time() - self._last_message
        if silent >= IDLE_S:
            self.stop(EndReason.IDLE, NORMAL)
        else:
            self._timers["idle"] = self._loop.call_later(IDLE_S - silent, self._check_idle)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
