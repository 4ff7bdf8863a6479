"""One open socket of `/ws/rustpbx`: its phases, its timers, and the wiring to a call. No parsing, no ORM."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import Any, assert_never

import voiceagent
from calls import events
from calls.audio.format import BYTES_PER_SECOND
from calls.conversation.call import Call, Client
from calls.gateway import admission, proxies
from calls.gateway.codes import ABUSE, INTERNAL, NORMAL
from calls.gateway.idle import IdleTimer
from calls.gateway.limits import Bucket, Limits
from calls.gateway.outbox import Outbox, Send
from calls.gateway.pacing import Pacing
from calls.gateway.phase import Life, Phase
from calls.gateway.reading import GATHER
from calls.models import EndReason
from calls.profiles.choosing import ChosenProfile, NoProfile, choose
from calls.recorder.writer import recorder
from calls.rustpbx import codec, messages
from calls.rustpbx.incoming import metadata_of, request_of
from calls.rustpbx.messages import Audio, Configure, Disconnect, ErrorCode, Ping, ProtocolError, Timed
from calls.rustpbx.outgoing import message_of, now_ms
from calls.tasks import Tasks

logger = logging.getLogger(__name__)

CONFIGURE_WITHIN_S = 2.0  # after the first audio; then the default profile answers
IDLE_S = 30.0
EARLY_AUDIO_BYTES = 5 * BYTES_PER_SECOND  # kept until the call starts
MESSAGES_IN_A_ROW = 64  # read before other tasks of the event loop may run
CONFIGURES_AT_ONCE, CONFIGURES_PER_S = 8, 1.0
ERRORS_AT_ONCE, ERRORS_PER_S = 20, 5.0

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Connection:
    """The server's side of one open socket.

    Args:
        scope, send: of the ASGI application.
    """

    def __init__(self, scope: dict[str, Any], send: Send) -> None:
        self.life = Life()
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._query = admission.query_of(scope)
        self._binary_audio = self._query.get("audio") == "binary"
        self._client = Client(self._take, self._send_audio, self._fail, proxies.client_address(scope))
        self._pacing = Pacing(self._ping, scope.get("extensions", {}).get(GATHER))
        self._outbox = Outbox(send, sent=self._pacing.sent, full=self._on_not_reading)
        self._limits = Limits(now)
        self._configures = Bucket.full(CONFIGURES_PER_S, CONFIGURES_AT_ONCE, now)
        self._errors = Bucket.full(ERRORS_PER_S, ERRORS_AT_ONCE, now)
        self._last_message = now
        self._json_audio = False
        self._call: Call | None = None
        self._configured = False  # by the client: audio may start the call before
        self._reconfigured: list[Configure] = []  # while the call was starting
        self._early_audio = bytearray()
        self._frames_sent = 0
        self._reader: asyncio.Task[Any] | None = None
        self._tasks = Tasks()
        self._timers: dict[str, asyncio.TimerHandle] = {}

    async def run(self, receive: Receive) -> None:
        """Serve the client until one side ends the call. Leaves nothing running."""
        self._reader = asyncio.current_task()
        self._outbox.start()
        version = voiceagent.__version__
        self._send_message(messages.Connected(timestamp=now_ms(), server="voiceagent", version=version))
        self._pacing.start()
        idle = IdleTimer(IDLE_S, lambda: self._last_message, lambda: self.stop(EndReason.IDLE, NORMAL))
        try:
            await self._read(receive)
        except asyncio.CancelledError:
            if self.life.leave(EndReason.SHUTDOWN, NORMAL):  # the server itself is going down
                raise
            self._reader.uncancel()  # type: ignore[union-attr]  # set above
        except Exception as e:
            logger.exception("a connection failed")
            self.life.leave(EndReason.ERROR, INTERNAL, f"{type(e).__name__}: {e}")
        finally:
            self.life.leave(EndReason.CLOSED, NORMAL)  # if nothing else has said why
            idle.stop()
            await self._finish()

    def stop(self, reason: EndReason, code: int, error: str = "") -> None:
        """End the connection from our side; `run` returns soon after."""
        leaving = self.life.leave(reason, code, error)
        if leaving and self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()  # the reader itself looks at the phase after each message

    # --- Reading ------------------------------------------------------------------------------------------

    async def _read(self, receive: Receive) -> None:
        for n in itertools.count(1):
            if n % MESSAGES_IN_A_ROW == 0:
                await asyncio.sleep(0)
            message = await receive()
            if message["type"] != "websocket.receive":
                self._outbox.lost()
                if message.get("code") == ABUSE:
                    self.life.leave(EndReason.ABUSE, ABUSE)
                return
            self._last_message = self._loop.time()
            try:
                await self._on_message(message)
            except ProtocolError as e:
                self._send_error(e.code, str(e))
            if self._limits.abused:
                self.stop(EndReason.ABUSE, ABUSE)
            if self.life.is_ending:
                return

    async def _on_message(self, message: dict[str, Any]) -> None:
        count = message.get("messages", 1)
        if not self._limits.messages(count, self._last_message):
            raise ProtocolError(ErrorCode.TOO_FAST, "expected at most 250 messages a second, got more")
        data = message.get("bytes")
        if data is not None:
            self._on_audio(codec.decode_binary(data), count)
            return
        match codec.decode_text(message["text"]):
            case Audio() as audio:
                self._json_audio = True
                self._on_audio(audio)
            case Ping(timestamp):
                self._send_message(messages.Pong(timestamp=timestamp))
            case Configure() as configure:
                await self._on_configure(configure)
            case Disconnect():
                self.life.leave(EndReason.DISCONNECT, NORMAL)
            case other:
                assert_never(other)

    def _on_audio(self, audio: Audio, frames: int = 1) -> None:
        now, size = self._last_message, len(audio.pcm)
        seconds = size / BYTES_PER_SECOND
        self._pacing.arrived(now, seconds, frames)
        if not self._limits.audio(seconds, now):
            raise ProtocolError(ErrorCode.TOO_FAST, "expected audio at the pace of speech, got it faster")
        if self._call is not None:
            self._call.hear(audio.pcm)
            self._pacing.heard(now, size, frames)
        else:
            self._keep_early(audio.pcm)

    def _keep_early(self, pcm: bytes) -> None:
        """Keep audio that comes before `configure`; 2 s after the first, start the call without it."""
        if self.life.phase is Phase.WAITING and "configure" not in self._timers:
            self._timers["configure"] = self._loop.call_later(
                CONFIGURE_WITHIN_S, self._start_call, Configure(room_id="")
            )
        if len(self._early_audio) < EARLY_AUDIO_BYTES:
            self._early_audio += pcm

    async def _on_configure(self, configure: Configure) -> None:
        if not self._configures.take(1.0, self._loop.time()):
            raise ProtocolError(
                ErrorCode.TOO_FAST, "expected `configure` about once a second, got it more often"
            )
        if self._call is not None:
            await self._reconfigure(self._call, configure)
        elif self.life.phase is Phase.STARTING:
            self._reconfigured.append(configure)
        else:
            self._configured = True
            self._start_call(configure)

    # --- The call -----------------------------------------------------------------------------------------

    def _start_call(self, configure: Configure) -> None:
        if not self.life.start():
            return
        if timer := self._timers.pop("configure", None):
            timer.cancel()
        self._tasks.spawn(self._start(self._request(configure)))

    def _request(self, configure: Configure) -> events.Request:
        return request_of(configure, self._query, self._metadata_of_url)

    @cached_property
    def _metadata_of_url(self) -> dict[str, Any]:
        try:
            return metadata_of(self._query)
        except ProtocolError as e:
            self._send_error(e.code, str(e))
            return {}

    async def _start(self, request: events.Request) -> None:
        """Choose the profile, build the call, greet. A failure is sent as an error and ends the socket."""
        try:
            chosen: ChosenProfile = await choose(request.profile or "")
            call = self._call = Call(self._client, request, chosen, recorder())
            if not chosen.found:
                message = f"expected a published profile, got {request.profile!r}; the default one answers"
                self._send_error(ErrorCode.NOT_FOUND, message)
            self._pacing.judged_every(call.cadence_bytes, len(self._early_audio))
            call.hear(bytes(self._early_audio))
            self._early_audio.clear()
            self._send_configured(call)
            await call.start()
            for another in self._reconfigured:
                await self._reconfigure(call, another)
        except NoProfile as e:
            Call.refuse(self._client, request, recorder(), str(e))
            self._fail(str(e))
            return
        except Exception as e:
            logger.exception("a call could not be started")
            self._fail(f"the call could not be started: {type(e).__name__}")
            return
        if self.life.run():
            self._timers["duration"] = self._loop.call_later(
                call.config.max_duration_s, lambda: self._tasks.spawn(self._say_goodbye(call))
            )

    async def _reconfigure(self, call: Call, configure: Configure) -> None:
        """Take a later `configure`, or the first one of a call that audio started."""
        if not self._configured:
            self._configured = True
            call.describe(self._request(configure))
            if configure.profile not in (None, "", call.profile):
                began, asked = call.profile, configure.profile
                message = f"expected profile {began!r}, with which the call has already begun, got {asked!r}"
                self._send_error(ErrorCode.BAD_VALUE, message)
        await call.prompt(configure.system_prompt)
        self._send_configured(call)

    async def _say_goodbye(self, call: Call) -> None:
        try:
            await call.say_goodbye()
        except Exception:
            logger.exception("a farewell could not be spoken")
        self.stop(EndReason.MAX_DURATION, NORMAL)

    def _fail(self, message: str) -> None:
        self._send_error(ErrorCode.INTERNAL, message)
        self.stop(EndReason.ERROR, INTERNAL, message)

    async def _finish(self) -> None:
        """Close the socket, end the call and our own tasks, concurrently; takes about two seconds at most."""
        self._pacing.stop()
        for timer in self._timers.values():
            timer.cancel()
        self._tasks.cancel()
        endings: list[Awaitable[None]] = [self._outbox.close(self.life.code), self._tasks.wait(1.0)]
        if self._call is not None:
            endings.append(self._call.end(self.life.reason, self.generation, self.life.error))
        await asyncio.gather(*endings)
        self.life.close()

    @property
    def generation(self) -> str:
        """The client's generation, as far as it is known."""
        return "json" if self._json_audio else self._pacing.generation

    # --- Writing ------------------------------------------------------------------------------------------

    def _take(self, event: events.Event) -> None:
        """Take an event of the call; send it to the client if RustPBX has a message for it."""
        if message := message_of(event):
            self._send_message(message)

    def _send_message(self, message: Timed) -> None:
        self._outbox.put(codec.encode(message))

    def _send_configured(self, call: Call) -> None:
        self._send_message(messages.Configured(timestamp=now_ms(), call_id=str(call.id), status="ready"))

    def _send_error(self, code: ErrorCode, message: str) -> None:
        """Send the error and store it with the call; above the rate limit, do neither."""
        if not self._errors.take(1.0, self._loop.time()):
            return
        self._send_message(messages.Error(timestamp=now_ms(), message=message, code=code))
        if self._call is not None:
            self._call.misused(int(code), message)

    def _ping(self) -> None:
        self._send_message(messages.ServerPing(timestamp=now_ms()))

    async def _send_audio(self, pcm: bytes) -> None:
        self._frames_sent += 1
        if self._binary_audio:
            await self._outbox.send_bytes(pcm)
        else:
            await self._outbox.send_text(codec.encode_audio(pcm, str(self._frames_sent)))

    def _on_not_reading(self) -> None:
        self.stop(EndReason.ABUSE, ABUSE, "the client does not read")
