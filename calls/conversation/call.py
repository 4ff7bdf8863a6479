"""One call: its configuration, its pipeline, what is done about failures, and who learns what happens in it.

The connection owns the socket and its timers; this owns the conversation. What happens goes as events
(`calls.events`) to the client's side and to the recorder.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from django.utils import timezone

from calls import events
from calls.audio.format import BYTES_PER_SECOND, FRAME_MS, VoiceOut
from calls.conversation.client import Client, nobody
from calls.conversation.failures import Failures
from calls.conversation.goodbye import Goodbye
from calls.conversation.prompting import Prompt
from calls.conversation.verbs import Verbs
from calls.conversation.watchdog import Watchdog
from calls.events import LLM, STT, TTS, Event, Request
from calls.models import CallStatus, EndReason, Opening
from calls.pipeline.build import build
from calls.pipeline.conversation import Conversation
from calls.profiles.choosing import ChosenProfile
from calls.profiles.in_force import for_request, in_force, wanted
from calls.providers.catalogue import KINDS, LOCAL
from calls.providers.errors import explained
from calls.recorder.rows import CallRows
from calls.recorder.writer import Recorder
from calls.tasks import Tasks

logger = logging.getLogger(__name__)

HEARS_WITHIN_S = 5.0  # then the greeting is spoken to whom it may concern
PROGRESS_S = 5.0  # between two notes of how far the call has got
TASKS_S = 1.0
STATUS_OF_REASON = {
    EndReason.ABUSE: CallStatus.FAILED,
    EndReason.ERROR: CallStatus.FAILED,
    EndReason.SHUTDOWN: CallStatus.INTERRUPTED,
}


Progress = Callable[[], tuple[str, float | None]]
"""Tells the client's generation, and how many seconds ago the caller's last audio came."""


class Call:
    """A call from its request to its end.

    Args:
        client: the way to the client.
        request: what the client asked for.
        chosen: the profile that answers.
        recorder: stores what happens.
    """

    def __init__(self, client: Client, request: Request, chosen: ChosenProfile, recorder: Recorder) -> None:
        self.id = request.call_id or uuid.uuid4()
        self.profile = chosen.slug
        self.audio_in_s = 0.0
        self.audio_out_s = 0.0
        self._client = client
        self._rows = CallRows(recorder, self.id)
        self._failures = Failures()
        self._watchdog = Watchdog(self._overdue)
        self._tasks = Tasks()
        self._hears = asyncio.Event()  # the caller: his first audio shows that his side is up
        self._ended = False
        self.config = for_request(chosen.configuration, request, chosen.name)
        self._started_at, self._started = timezone.now(), time.monotonic()
        self._prompt = Prompt(self.config, request.system_prompt)
        version, draft_of, draft = chosen.version_id, chosen.draft_of, chosen.draft
        self._publish(events.Began(request, version, self._started_at, client.address, draft_of, draft))
        try:
            self._conversation: Conversation = build(
                self.config,
                system_prompt=self._prompt.text,
                send_audio=self._send_audio,
                emit=self.take,
                started=self._started,
                voice=client.voice,
                is_typed=client.is_typed,
            )
        except Exception as e:
            error = f"the pipeline could not be built: {explained(str(e))}"
            self._publish_end(EndReason.ERROR, "", error, self._now())
            raise
        self.verbs = Verbs(
            self.config, self._conversation, self._publish, lambda: self._client,
            prompt=self._prompt, watchdog=self._watchdog, tasks=self._tasks,
        )  # fmt: skip
        self._goodbye = Goodbye(self.config.end_phrases, self.verbs, self._conversation, self._tasks)
        stood_in = self._conversation.stood_in
        self._publish(events.Answering(in_force(self.config, stood_in, is_typed=client.is_typed)))
        for part, instead in stood_in.items():
            logger.warning("call %s: %s: %s", self.id, part, instead.why)
            by = "" if instead.provider == LOCAL else instead.provider
            self._publish(events.StoodIn(part, wanted(self.config, part), instead.why, by))

    @staticmethod
    def refuse(client: Client, request: Request, recorder: Recorder, why: str) -> None:
        """Log and store a call that nobody answers, so that somebody sees it."""
        logger.error("refused a call from %s: %s", client.address or "?", why)
        rows, now = CallRows(recorder, request.call_id or uuid.uuid4()), timezone.now()
        rows(events.Began(request, None, now, client.address))
        rows(events.Refused(why))
        rows(events.Ended(EndReason.ERROR, CallStatus.FAILED, now, 0.0, 0.0, "", why))

    @property
    def cadence_bytes(self) -> int:
        """How much of the caller's voice is judged at once."""
        return self._conversation.cadence_bytes

    @property
    def voice(self) -> VoiceOut:
        """How the agent's voice is sent."""
        return self._conversation.voice

    @property
    def left_s(self) -> float:
        """Seconds until the call has reached its longest duration."""
        return max(0.0, self.config.max_duration_s - (time.monotonic() - self._started))

    def start(self, progress: Progress) -> None:
        """Run the pipeline and greet the caller as soon as he can hear it."""
        self._progress = progress
        self._conversation.start(self._pipeline_ended)
        self._tasks.spawn(self._go_on())
        if self._client.is_typed:
            self._hears.set()  # there is nothing to hear
        if self.config.greeting and self.config.opens == Opening.AGENT:
            self._tasks.spawn(self._greet())

    async def _greet(self) -> None:
        """Speak the greeting once there is audio of the caller: RustPBX connects before its media is up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(HEARS_WITHIN_S):
                await self._hears.wait()
        await self._conversation.say(self.config.greeting)

    def hear(self, pcm: bytes) -> None:
        """Take the caller's voice: s16le at 16 kHz, any length."""
        if not pcm:
            return
        self._hears.set()
        self.audio_in_s += len(pcm) / BYTES_PER_SECOND
        self._conversation.hear(pcm)

    async def press(self, digit: str) -> None:
        """The caller pressed a key."""
        self._hears.set()
        self._publish(events.KeyPressed(digit))
        await self._conversation.press(digit)

    async def type(self, text: str) -> None:
        """The caller typed this instead of saying it."""
        await self._conversation.type(text)

    def park(self, over: Callable[[EndReason, str], None]) -> None:
        """The client has gone and may be back: until `attach` nothing is heard, and nobody is told anything.

        `over` is called with the reason, and an error or "", when the call ends meanwhile.
        """
        self._client = nobody(self._client, over)

    def attach(self, client: Client, progress: Progress, why: str) -> None:
        """The call is back from a transfer that failed, as `why` says: the agent goes on with the caller."""
        self._client, self._progress = client, progress
        self._tasks.spawn(self.verbs.come_back(why))

    async def _go_on(self) -> None:
        """Store now and then how far the call has got, in case this process dies."""
        while True:
            await asyncio.sleep(PROGRESS_S)
            generation, silent_s = self._progress()
            last_audio_at = None if silent_s is None else self._now() - timedelta(seconds=silent_s)
            audio_in_s, audio_out_s = round(self.audio_in_s, 3), round(self.audio_out_s, 3)
            self._publish(events.WentOn(audio_in_s, audio_out_s, generation, last_audio_at))

    def describe(self, request: Request) -> None:
        """The client describes a call that audio has begun."""
        self._publish(events.Described(request))

    async def end(self, reason: EndReason, generation: str, error: str = "", ago_s: float = 0.0) -> None:
        """Stop the pipeline and store the end, which was `ago_s` ago.

        Returns within about two seconds and leaves nothing running; may be called again.
        """
        if self._ended:
            return
        self._ended = True
        ended_at = self._now() - timedelta(seconds=ago_s)
        self._watchdog.stop()
        self.verbs.stop(reason)
        self._tasks.cancel()
        await asyncio.gather(self._conversation.stop(), self._tasks.wait(TASKS_S))
        self._publish_end(reason, generation, error, ended_at)

    def misused(self, code: int, message: str, count: int) -> None:
        """The client sent what cannot be used, for the `count`th time; the connection has answered."""
        self._publish(events.Misused(code, message, count))

    # --- What happens -------------------------------------------------------------------------------------

    def take(self, event: Event) -> None:
        """Something happened in the pipeline: do what has to be done about it, and pass it on."""
        match event:
            case events.Awaiting(part, goes_on):
                self._await(part, goes_on)
            case events.Failed():
                self._take_failure(event)
            case events.Shortened(part, message):
                logger.warning("call %s: %s: %s", self.id, part, message)
                self._publish(replace(event, provider=wanted(self.config, part)))
            case _:
                if isinstance(event, events.Interrupted):
                    self._failures.caller_spoke()
                self._publish(event)
        self._goodbye.take(event)

    def _publish(self, event: Event) -> None:
        self._client.take(event)
        self._rows(event)

    def _publish_end(self, reason: EndReason, generation: str, error: str, ended_at: datetime) -> None:
        self._publish(
            events.Ended(
                reason=reason,
                status=STATUS_OF_REASON.get(reason, CallStatus.COMPLETED),
                ended_at=ended_at,
                audio_in_s=round(self.audio_in_s, 3),
                audio_out_s=round(self.audio_out_s, 3),
                client=generation,
                error=error,
            )
        )

    def _now(self) -> datetime:
        """The present time by the wall clock of the call's start: setting the clock moves no offset."""
        return self._started_at + timedelta(seconds=time.monotonic() - self._started)

    # --- What is done about it ----------------------------------------------------------------------------

    def _await(self, part: str | None, goes_on: bool) -> None:
        """Give what is due a bounded time to begin, or to go on."""
        self._watchdog.stop()
        if not self.verbs.answers:
            return
        if part in (STT, LLM) and not goes_on:
            self._failures.caller_spoke()
        if part == TTS and not self._conversation.services.tts.is_usable:
            self._give_up(part, "the voice is out of service")
        elif part is not None:
            self._watchdog.expect(part)

    def _take_failure(self, failure: events.Failed) -> None:
        """Publish it, once, and apologise if the caller waits in vain. The call goes on."""
        logger.warning("call %s: %s: %s", self.id, failure.part, failure.message)
        if self._ended:
            return
        if failure.part in KINDS:
            failure = replace(failure, provider=wanted(self.config, failure.part))
        if not failure.caller_waits or self._failures.is_new(failure.part, failure.message):
            self._publish(failure)
        if failure.caller_waits:
            self._watchdog.stop()
            self._apologise(failure.part)

    def _apologise(self, part: str) -> None:
        if self.config.apology and not self._failures.is_apologised:
            self._failures.is_apologised = True
            # When the call's own voice is what failed, the embedded one speaks, though the other may recover.
            say = self._conversation.say_with_embedded_voice if part == TTS else self._conversation.say
            self._tasks.spawn(say(self.config.apology))

    def _overdue(self, part: str, seconds: float) -> None:
        self._give_up(part, f"nothing came from it within {seconds:.0f} s")

    def _give_up(self, part: str, message: str) -> None:
        self._tasks.spawn(self._conversation.give_up_reply())
        self._take_failure(events.Failed(part, message))

    def _pipeline_ended(self) -> None:
        if not (self._ended or self.verbs.is_ending):
            self._client.hang_up("the call's pipeline ended before the call did")

    async def _send_audio(self, pcm: bytes) -> None:
        self.audio_out_s += FRAME_MS / 1000
        await self._client.send_audio(pcm)
