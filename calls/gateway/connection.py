"""One open socket of `/ws/rustpbx`: its phases, its timers, and the wiring to a call. No parsing, no ORM."""

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, assert_never

from calls import events
from calls.conversation.call import Call
from calls.conversation.client import Client
from calls.conversation.control import Refused
from calls.gateway import admission, proxies, registry
from calls.gateway.arrival import UNANNOUNCED, Arrival
from calls.gateway.beginning import begin
from calls.gateway.codes import ABUSE, GOING_AWAY, INTERNAL, NORMAL
from calls.gateway.idle import AudioTimer
from calls.gateway.intake import Intake
from calls.gateway.limits import Bucket, Limits
from calls.gateway.mistakes import Mistakes
from calls.gateway.outbox import Outbox, Send
from calls.gateway.pacing import Pacing
from calls.gateway.phase import Life, Phase
from calls.gateway.reading import GATHER
from calls.gateway.sending import Sending
from calls.models import EndReason
from calls.profiles.choosing import NoProfile
from calls.rustpbx import messages
from calls.rustpbx.dialect import dialect_of, presumed_bridge
from calls.rustpbx.incoming import request_of
from calls.rustpbx.messages import Audio, Configure, Disconnect, ErrorCode, Key, Ping, ProtocolError, Typed
from calls.rustpbx.url import decode_url
from calls.tasks import Tasks

logger = logging.getLogger(__name__)

CONFIGURE_WITHIN_S = 2.0  # after the first audio; then the default profile answers
MESSAGES_IN_A_ROW = 64  # read before other tasks of the event loop may run
AGAIN_S = 5.0  # a farewell that cannot be said now is tried once more
CONFIGURES_AT_ONCE, CONFIGURES_PER_S = 8, 1.0

Receive = Callable[[], Awaitable[dict[str, Any]]]


class Connection:
    """The server's side of one open socket.

    Args:
        scope, send: of the ASGI application.
        arrival: what is known of the call already.
    """

    def __init__(self, scope: dict[str, Any], send: Send, arrival: Arrival = UNANNOUNCED) -> None:
        self.life = Life()
        self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        self._url, self._url_errors = decode_url(admission.query_of(scope))
        self._dialect = arrival.dialect or dialect_of(self._url)
        self._arrival = arrival
        self._pacing = Pacing(self._ping, scope.get("extensions", {}).get(GATHER))
        self._outbox = Outbox(send, sent=self._pacing.sent, full=self._on_not_reading)
        self._sending = Sending(self._dialect, self._outbox)
        self._client = Client(
            take=self._sending.event,
            send_audio=self._sending.audio,
            hang_up=self._fail,
            leave=self._leave,
            address=proxies.client_address(scope),
            voice=self._dialect.voice,
            control=arrival.control,
            is_typed=self._dialect.is_typed,
        )
        self._limits = Limits(now)
        self._configures = Bucket.full(CONFIGURES_PER_S, CONFIGURES_AT_ONCE, now)
        self._mistakes = Mistakes(self._sending.message)
        self._audio = AudioTimer(self._on_no_audio)
        self._intake = Intake(self._dialect.rate, self._pacing, self._limits, self._audio)
        self._last_message = now
        self._json_audio = False
        self._call: Call | None = None
        self._configured = False  # by the client: audio may start the call before
        self._reconfigured: list[Configure] = []  # while the call was starting
        self._reader: asyncio.Task[Any] | None = None
        self._tasks = Tasks()
        self._without_configure: asyncio.TimerHandle | None = None

    async def run(self, receive: Receive) -> None:
        """Serve the client until one side ends the call. Leaves nothing running."""
        self._reader = asyncio.current_task()
        self._outbox.start()
        self._sending.connected()
        self._pacing.start()
        for error in self._url_errors:
            self._mistakes.add(error.code, str(error))
        if self._dialect.begins_at_once:
            self._start_call(Configure(room_id=""))
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
                self._lost(message.get("code"))
                return
            self._last_message = self._loop.time()
            try:
                await self._on_message(message)
            except ProtocolError as e:
                self._mistakes.add(e.code, str(e))
                if e.code is not ErrorCode.TOO_FAST:  # of which the limits know already
                    self._limits.mistake(self._last_message)
            if self._limits.abused:
                self.stop(EndReason.ABUSE, ABUSE)
            if self.life.is_ending:
                return

    def _lost(self, code: int | None) -> None:
        """The client's side has ended the connection."""
        self._outbox.lost()
        if code == ABUSE:
            self.life.leave(EndReason.ABUSE, ABUSE)
        elif not self._dialect.audio_is_life:  # it hangs up so, without a close frame
            self.life.leave(EndReason.DISCONNECT, NORMAL)

    async def _on_message(self, message: dict[str, Any]) -> None:
        count, data = message.get("messages", 1), message.get("bytes")
        content = message["text"] if data is None else data
        if not self._limits.messages(count, len(content), self._last_message):
            raise ProtocolError(
                ErrorCode.TOO_FAST, "expected at most 250 messages and 512 KB a second, got more"
            )
        if data is not None:
            self._on_audio(self._dialect.decode_binary(data), count)
            return
        match self._dialect.decode_text(content):
            case Audio() as audio:
                self._json_audio = True
                self._on_audio(audio)
            case Ping(timestamp):
                self._sending.message(messages.Pong(timestamp=timestamp))
            case Configure() as configure:
                await self._on_configure(configure)
            case Disconnect():
                self.life.leave(EndReason.DISCONNECT, NORMAL)
            case Key(what) | Typed(what) as entered:
                if self._call is not None:
                    await (self._call.press if isinstance(entered, Key) else self._call.type)(what)
            case other:
                assert_never(other)

    def _on_audio(self, audio: Audio, frames: int = 1) -> None:
        self._intake.take(audio, frames, self._last_message)
        if self.life.phase is Phase.WAITING and self._without_configure is None:
            start = self._start_without_configure
            self._without_configure = self._loop.call_later(CONFIGURE_WITHIN_S, start)

    def _start_without_configure(self) -> None:
        """Only audio has come: start the call, of RustPBX's bridge if the audio is binary."""
        pace = self._intake.bytes_per_second
        if pace and not self._json_audio:
            self._dialect = self._sending.dialect = presumed_bridge(pace)
            self._intake.expect(self._dialect.rate)
            self._client = replace(self._client, voice=self._dialect.voice)
        self._start_call(Configure(room_id=""))

    async def _on_configure(self, configure: Configure) -> None:
        if not self._configures.take(1.0, self._loop.time()):
            raise ProtocolError(
                ErrorCode.TOO_FAST, "expected `configure` about once a second, got it more often"
            )
        if self.life.phase is Phase.STARTING:  # until then, so that they are taken in order
            self._reconfigured.append(configure)
        elif self._call is not None:
            await self._reconfigure(self._call, configure)
        else:
            self._configured = True
            self._start_call(configure)

    # --- The call -----------------------------------------------------------------------------------------

    def _start_call(self, configure: Configure) -> None:
        if not self.life.start():
            return
        if self._without_configure:
            self._without_configure.cancel()
        self._tasks.spawn(self._start(request_of(configure, self._url)))

    async def _start(self, request: events.Request) -> None:
        """Start the call or go on with the one that is back. A failure is sent and ends the socket."""
        try:
            call = await begin(self._client, request, self._arrival, self._mistakes, self._progress)
            self._call = call
            self._intake.give_to(call)
            self._sending.configured(call)
            while self._reconfigured:  # more may come meanwhile
                await self._reconfigure(call, self._reconfigured.pop(0))
        except NoProfile as e:
            self._fail(str(e))
            return
        except Exception as e:
            logger.exception("a call could not be started")
            self._fail(f"the call could not be started: {type(e).__name__}")
            return
        if self.life.run():
            self._tasks.spawn(self._say_goodbye_in(call.left_s, EndReason.MAX_DURATION))

    def _progress(self) -> tuple[str, float | None]:
        return self.generation, self._audio.silent_s

    async def _reconfigure(self, call: Call, configure: Configure) -> None:
        """Take a later `configure`, or the first one of a call that audio started."""
        if not self._configured:
            self._configured = True
            call.describe(request_of(configure, self._url))
            if configure.profile not in (None, "", call.profile):
                began, asked = call.profile, configure.profile
                message = f"expected profile {began!r}, with which the call has already begun, got {asked!r}"
                self._mistakes.add(ErrorCode.BAD_VALUE, message)
        await call.verbs.client_prompt(configure.system_prompt)
        self._sending.configured(call)

    async def say_goodbye(self, reason: EndReason) -> None:
        """Have the farewell spoken, if there is a call, and end the connection for this reason."""
        try:
            if self._call is not None:
                await self._call.verbs.end(reason)
        except Refused:  # the agent takes leave already, but a transfer may fail
            self._tasks.spawn(self._say_goodbye_in(AGAIN_S, reason))
            return
        except Exception:
            logger.exception("a farewell could not be spoken")
        self._leave(reason)

    async def _say_goodbye_in(self, seconds: float, reason: EndReason) -> None:
        await asyncio.sleep(seconds)
        await self.say_goodbye(reason)

    def _fail(self, message: str) -> None:
        self._mistakes.add(ErrorCode.INTERNAL, message)
        self.stop(EndReason.ERROR, INTERNAL, message)

    async def _finish(self) -> None:
        """Close the socket, end the call and our own tasks, concurrently; takes about two seconds at most."""
        self._pacing.stop()
        self._audio.stop()
        self._mistakes.settle()
        if self._without_configure:
            self._without_configure.cancel()
        self._tasks.cancel()
        await self._arrival.leaving(self.life.reason)
        endings: list[Awaitable[None]] = [self._outbox.close(self.life.code), self._tasks.wait(1.0)]
        if self._call is not None and self.life.reason is EndReason.TRANSFERRED and self._arrival.key:
            registry.park(self._arrival.key, self._call, self.generation)
        elif self._call is not None:
            registry.running.pop(self._call.id, None)
            ago_s = self._audio.over_for_s(self.life.reason)
            endings.append(self._call.end(self.life.reason, self.generation, self.life.error, ago_s))
        await asyncio.gather(*endings)
        self.life.close()

    @property
    def generation(self) -> str:
        """The client's generation, as far as it is known."""
        return self._dialect.generation or ("json" if self._json_audio else self._pacing.generation)

    def _ping(self) -> None:
        self._sending.ping()  # which is made after what paces it

    def _leave(self, reason: EndReason) -> None:
        """The call does not need the socket any more."""
        self.stop(reason, GOING_AWAY if reason is EndReason.DRAINED else NORMAL)

    def _on_no_audio(self, reason: EndReason) -> None:
        if self._dialect.audio_is_life:
            self.stop(reason, NORMAL)

    def _on_not_reading(self) -> None:
        self.stop(EndReason.ABUSE, ABUSE, "the client does not read")
