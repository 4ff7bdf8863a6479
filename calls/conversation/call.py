"""One call: its configuration, its pipeline, and where what happens in it goes.

The consumer owns the socket and its timers; this owns the conversation. What the pipeline reports (see
`calls.pipeline.listener.Listener`) is sent to RustPBX and handed to the recorder from here.
"""

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from django.utils import timezone

from calls.audio.format import BYTES_PER_SECOND
from calls.models import (
    CallEnd,
    CallStart,
    CallStatus,
    Description,
    EndReason,
    EventKind,
    EventRow,
    Severity,
    TurnRow,
)
from calls.pipeline.build import Conversation, build
from calls.pipeline.listener import TurnState
from calls.pipeline.observer import now_ms
from calls.process import this_process
from calls.profiles.choosing import ChosenProfile
from calls.profiles.in_force import CallConfig, Provider
from calls.providers import catalogue
from calls.recorder.writer import Recorder
from calls.rustpbx.messages import Configure, Error, ErrorCode, Timed

logger = logging.getLogger(__name__)

# A service that has not begun by then is taken for dead: transcript, model, voice.
DUE_S = {"stt": 5.0, "llm": 8.0, "tts": 4.0}
SAME_FAILURE_S = 3.0  # one failure often comes as several errors
FAREWELL_S = 20.0
STATUS_OF_REASON = {
    EndReason.ABUSE: CallStatus.FAILED,
    EndReason.ERROR: CallStatus.FAILED,
    EndReason.SHUTDOWN: CallStatus.INTERRUPTED,
}
SEVERITY_OF_KIND = {EventKind.INTERRUPTION: Severity.INFO, EventKind.CONFIGURATION: Severity.INFO}


@dataclass(frozen=True, slots=True)
class Line:
    """The way to the client.

    `tell` queues a message and never waits; `send_audio` sends 20 ms of voice (640 bytes); `fail` ends the
    connection with an error that says why.
    """

    tell: Callable[[Timed], None]
    send_audio: Callable[[bytes], Awaitable[None]]
    fail: Callable[[str], None]
    remote_address: str


class Call:
    """A call from its first `configure` to its end.

    Args:
        line: the way to the client.
        configure: what the client asked for.
        chosen: the profile that answers.
        recorder: stores what happens.
    """

    def __init__(self, line: Line, configure: Configure, chosen: ChosenProfile, recorder: Recorder) -> None:
        self.id = uuid.uuid4()
        self.profile = chosen.slug
        self.audio_in_s = 0.0
        self.audio_out_s = 0.0
        self._line = line
        self._recorder = recorder
        self._started_at = timezone.now()
        self._client_prompt = configure.system_prompt
        self._apologised = False  # since the caller last said something
        self._failed_at: dict[str, float] = {}  # by kind of service
        self._watchdog: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = False
        self._leaving = False  # the farewell is being said
        self.config = _config(configure, chosen.configuration)
        self._recorder.start(
            CallStart(
                id=self.id,
                version_id=chosen.version_id,
                description=_description(configure),
                started_at=self._started_at,
                remote_address=line.remote_address,
                node_id=this_process.boot,
            )
        )
        try:
            self._conversation: Conversation = build(
                self.config,
                system_prompt=self.config.prompt_for(self._client_prompt),
                send_audio=self._send_audio,
                listener=self,
                started=self._started_at.timestamp(),
            )
        except Exception as e:
            self._store_end(EndReason.ERROR, "", f"the pipeline could not be built: {e}")
            raise
        self._recorder.answered_by(self.id, _shown(self.config, self._conversation.stood_in))
        for kind, why in self._conversation.stood_in.items():
            self._tell_failure(kind, f"{why}; the embedded one, in English, stands in")

    async def start(self) -> None:
        """Run the pipeline and greet the caller."""
        self._conversation.start(self._pipeline_ended)
        if self.config.greeting:
            await self._conversation.say(self.config.greeting)

    def hear(self, pcm: bytes) -> int:
        """Take the caller's voice: s16le at 16 kHz, any length. How many bytes of it would be judged next."""
        self.audio_in_s += len(pcm) / BYTES_PER_SECOND
        return self._conversation.hear(pcm)

    def describe(self, configure: Configure) -> None:
        """The first `configure` of a call that began without: store what it tells of the call."""
        self._recorder.describe(self.id, _description(configure))

    async def reconfigure(self, configure: Configure) -> None:
        """Another `configure` during the call: its prompt is in force from the next answer on."""
        if configure.system_prompt is None:
            return
        before = self.config.prompt_for(self._client_prompt)
        self._client_prompt = configure.system_prompt
        in_force = self.config.prompt_for(self._client_prompt)
        if in_force == before:
            return
        await self._conversation.prompt(in_force)
        self.note(EventKind.CONFIGURATION, "the client changed its prompt", system_prompt=self._client_prompt)

    async def say_goodbye(self) -> None:
        """Speak the farewell to its end, then stop; bounded."""
        self._leaving = True
        self._stop_watching()
        with suppress(TimeoutError):
            async with asyncio.timeout(FAREWELL_S):
                if self.config.farewell:
                    await self._conversation.say(self.config.farewell, interruptible=False)
                await self._conversation.finish()

    async def end(self, reason: EndReason, generation: str, error: str = "") -> None:
        """Stop the pipeline and store the end. Returns within about two seconds; may be called again."""
        if self._ended:
            return
        self._ended = True
        self._stop_watching()
        for task in self._tasks:
            task.cancel()
        await self._conversation.stop()
        self._store_end(reason, generation, error)

    def _store_end(self, reason: EndReason, generation: str, error: str) -> None:
        self._recorder.finish(
            CallEnd(
                id=self.id,
                status=STATUS_OF_REASON.get(reason, CallStatus.COMPLETED),
                end_reason=reason,
                ended_at=timezone.now(),
                audio_in_s=round(self.audio_in_s, 3),
                audio_out_s=round(self.audio_out_s, 3),
                client_generation=generation,
                error=error,
            )
        )

    def note(
        self,
        kind: EventKind,
        message: str,
        *,
        severity: Severity | None = None,
        provider: str = "",
        turn: int | None = None,
        **detail: Any,
    ) -> None:
        """Store an event of this call; without a severity it has its kind's."""
        ms = round((timezone.now() - self._started_at).total_seconds() * 1000)
        severity = severity or SEVERITY_OF_KIND.get(kind, Severity.ERROR)
        self._recorder.event(EventRow(self.id, ms, kind, severity, message, provider, turn, detail))

    # --- What the pipeline reports ------------------------------------------------------------------------

    def tell(self, message: Timed) -> None:
        """Send a message to RustPBX."""
        self._line.tell(message)

    def turn(self, turn: TurnState) -> None:
        """Store a turn."""
        self._recorder.turn(
            TurnRow(
                session_id=self.id,
                index=turn.index,
                speaker=turn.speaker,
                text=turn.text,
                start_ms=turn.start_ms,
                end_ms=turn.end_ms,
                interrupted=turn.interrupted,
                language=turn.language,
                final=turn.end_ms is not None,
                stt_ms=turn.latency.get("stt"),
                llm_ms=turn.latency.get("llm_ttft"),
                tts_ms=turn.latency.get("tts_ttfb"),
                total_ms=turn.latency.get("turn_latency"),
            )
        )

    def interrupted(self, spoken: str) -> None:
        """Store that the caller spoke over the agent."""
        self._apologised = False
        self.note(EventKind.INTERRUPTION, "the caller interrupted the agent", spoken=spoken)

    def awaiting(self, kind: str | None) -> None:
        """Give what is due a bounded time to begin."""
        self._stop_watching()
        if kind in ("stt", "llm"):
            self._apologised = False
        if kind == "tts" and not self._conversation.services.tts.is_usable:
            self._give_up(kind, "the voice is out of service")
        elif kind is not None:
            self._watchdog = asyncio.get_running_loop().call_later(DUE_S[kind], self._overdue, kind)

    def provider_failed(self, kind: str, message: str) -> None:
        """Tell RustPBX, store it, and apologise to the caller. The call goes on."""
        now = asyncio.get_running_loop().time()
        if self._ended or now - self._failed_at.get(kind, -SAME_FAILURE_S) < SAME_FAILURE_S:
            logger.warning("call %s: %s: %s", self.id, kind, message)
            return
        self._failed_at[kind] = now
        self._tell_failure(kind, message)
        self._stop_watching()
        if self.config.apology and not self._apologised:
            self._apologised = True
            # When the call's own voice is what failed, the embedded one speaks, though the other may recover.
            say = self._conversation.say_with_embedded_voice if kind == "tts" else self._conversation.say
            self._spawn(say(self.config.apology))

    def provider_faltered(self, kind: str, message: str) -> None:
        """Tell RustPBX and store it; the caller needs no apology."""
        if not self._ended:
            self._tell_failure(kind, message, Severity.WARNING)

    def _tell_failure(self, kind: str, message: str, severity: Severity = Severity.ERROR) -> None:
        logger.warning("call %s: %s: %s", self.id, kind, message)
        self._line.tell(Error(timestamp=now_ms(), message=f"{kind}: {message}", code=ErrorCode.PROVIDER))
        self.note(EventKind.PROVIDER_FAILURE, message, severity=severity, provider=self._provider(kind))

    def _provider(self, kind: str) -> str:
        """The kind of service with the provider the profile wants for it: "stt/cartesia"."""
        return f"{kind}/{_wanted(self.config, kind)}" if kind in catalogue.KINDS else kind

    def _overdue(self, kind: str) -> None:
        self._give_up(kind, f"nothing came from it within {DUE_S[kind]:.0f} s")

    def _give_up(self, kind: str, message: str) -> None:
        self._spawn(self._conversation.give_up_reply())
        self.provider_failed(kind, message)

    def _stop_watching(self) -> None:
        if self._watchdog is not None:
            self._watchdog.cancel()
            self._watchdog = None

    def _pipeline_ended(self) -> None:
        if not (self._ended or self._leaving):
            self._line.fail("the call's pipeline ended before the call did")

    async def _send_audio(self, pcm: bytes) -> None:
        self.audio_out_s += len(pcm) / BYTES_PER_SECOND
        await self._line.send_audio(pcm)

    def _spawn(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _description(configure: Configure) -> Description:
    """What a `configure` tells of its call."""
    return Description(
        room_id=configure.room_id,
        caller=configure.caller or "",
        callee=configure.callee or "",
        metadata=dict(configure.metadata),
        client_configs={
            "system_prompt": configure.system_prompt,
            "stt": configure.stt_config,
            "llm": configure.llm_config,
            "tts": configure.tts_config,
        },
    )


def _config(configure: Configure, profile: Mapping[str, Any]) -> CallConfig:
    """The profile's configuration, with the client's provider settings if the profile opted in to them."""
    config = CallConfig.from_profile(profile)
    if not profile["use_client_settings"]:
        return config

    def merged(kind: str, provider: Provider, wish: Mapping[str, Any] | None) -> Provider:
        accepted = catalogue.accepted(kind, provider.name, wish or {})
        return Provider(provider.name, {**provider.settings, **accepted})

    return replace(
        config,
        stt=merged("stt", config.stt, configure.stt_config),
        llm=merged("llm", config.llm, configure.llm_config),
        tts=merged("tts", config.tts, configure.tts_config),
    )


def _wanted(config: CallConfig, kind: str) -> str:
    """The provider the profile wants, "auto" resolved; a name the catalogue does not know stays as it is."""
    provider: Provider = getattr(config, kind)
    with suppress(ValueError):
        return catalogue.resolve(kind, provider.name)
    return provider.name


def _shown(config: CallConfig, stood_in: Mapping[str, str]) -> dict[str, Any]:
    """The providers and settings really in force: what "auto" became, every default, and who stands in.

    `stood_in` says, by kind, why the embedded provider took the place of the one wanted.
    """
    shown: dict[str, Any] = {}
    for kind in catalogue.KINDS:
        provider: Provider = getattr(config, kind)
        name, settings = _wanted(config, kind), provider.settings
        if kind in stood_in:
            local, defaults = catalogue.LOCAL, catalogue.defaults(kind, catalogue.LOCAL)
            shown[kind] = {"provider": local, "settings": defaults, "instead_of": name, "why": stood_in[kind]}
        else:
            shown[kind] = {"provider": name, "settings": {**catalogue.defaults(kind, name), **settings}}
    return shown
