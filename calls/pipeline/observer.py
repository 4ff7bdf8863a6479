"""Follows the conversation from outside the audio path and emits events (`calls.events`) as things happen.

Frames come from the taps through a queue and are handled in a task of its own: nothing here delays audio.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pipecat.frames.frames import (
    AggregatedTextFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    Frame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextAssistantTurnFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    TranscriptionFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData

from calls import events
from calls.events import CALLER, LLM, PIPELINE, STT, TTS, Sink, Turn
from calls.pipeline.hearing import LATE_S, LateTranscriptionFrame
from calls.pipeline.reply import WrittenFrame
from calls.pipeline.sentences import SpokenSentences, WrittenReply
from calls.pipeline.taps import Services, tap
from calls.pipeline.turn_taking import PassedOverFrame
from calls.pipeline.turns import AgentTurn, Turns, monotonic_of
from calls.providers.errors import explained
from calls.providers.frames import PromptCutFrame, ReplyCutFrame, SpeechTranscribedFrame

WORDS_S = 1.0  # speech this long holds words: a service that hears none has failed


class ConversationObserver:
    """Makes events of frames: who said what, when, and how long it took.

    Args:
        services: the call's processors.
        emit: is called with each event.
        started: when the call started, in seconds of time.monotonic().
        language: of the call, for transcripts whose service names none.
    """

    def __init__(self, services: Services, emit: Sink, *, started: float, language: str) -> None:
        self._services = services
        self._emit = emit
        self._turns = Turns(emit, started, language)
        self._language = language
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._caller: Turn | None = None
        self._agent = AgentTurn(self._turns)
        self._speech_start: float | None = None  # of the caller's turn, as all times by time.monotonic()
        self._speech_began = 0.0  # of its latest stretch without a pause
        self._speech_end: float | None = None
        self._unanswered_since: float | None = None
        self._latencies: dict[str, int] = {}  # of the next answer, by field of Turn
        self._shown: InterimTranscriptionFrame | None = None  # the last interim, until a final comes
        self._bot_speaking = False
        self._voice_ended = True  # whether TTSStoppedFrame has come; else the voice breaks off when it stops
        self._waiting_voices = 0  # that have begun while one before them, which has ended, is still played
        self._interruptible = True  # whether what is being spoken is; the farewell is not
        self._failed = False  # whether a service has failed since the caller's last turn
        self._reply = WrittenReply(emit)
        self._sentences = SpokenSentences(emit)
        self._handlers: dict[type[Frame], Callable[[Any], None]] = {
            InterimTranscriptionFrame: self._on_partial,
            TranscriptionFrame: self._on_final,
            LateTranscriptionFrame: self._on_late,
            VADUserStartedSpeakingFrame: self._on_speech_started,
            VADUserStoppedSpeakingFrame: self._on_speech_stopped,
            SpeechTranscribedFrame: self._on_nothing_heard,
            LLMContextUserTurnFrame: self._on_caller_turn,
            PassedOverFrame: self._on_passed_over,
            LLMFullResponseStartFrame: self._on_reply_started,
            LLMTextFrame: self._on_reply_text,
            WrittenFrame: self._on_written,
            ReplyCutFrame: self._on_cut,
            PromptCutFrame: self._on_cut,
            LLMFullResponseEndFrame: self._on_reply_ended,
            AggregatedTextFrame: self._sentences.announce,
            TTSStartedFrame: self._on_voice_started,
            TTSStoppedFrame: self._on_voice_ended,
            BotStartedSpeakingFrame: self._on_bot_started,
            TTSTextFrame: self._on_word,
            BotStoppedSpeakingFrame: self._on_bot_stopped,
            LLMContextAssistantTurnFrame: self._on_agent_turn,
            InterruptionFrame: self._on_interruption,
            MetricsFrame: self._on_metrics,
            ErrorFrame: self._on_error,
        }
        tap(services, self._frames.put_nowait)

    async def run(self) -> None:
        """Follow the conversation, until cancelled."""
        while True:
            self._follow(await self._frames.get())

    def drain(self) -> None:
        """Handle the frames that are left when the pipeline has stopped, and end the turns that were open."""
        while not self._frames.empty():
            self._follow(self._frames.get_nowait())
        if self._shown is not None:  # the caller hung up in the middle of a sentence
            self._speech_end = time.monotonic()
            self._on_final(TranscriptionFrame(self._shown.text, "", "", self._shown.language))
        if self._bot_speaking:
            self._voice_ended = True  # we ended it: it did not break off
            self._on_bot_stopped(BotStoppedSpeakingFrame())

    def forget_wait(self) -> None:
        """The caller was left without an answer on purpose: what comes next answers nothing."""
        self._unanswered_since = None
        self._latencies = {}

    def _follow(self, frame: Frame) -> None:
        self._handlers[type(frame)](frame)

    def _on_error(self, frame: ErrorFrame) -> None:
        self._failed = True
        part = self._services.part_of(frame.processor)
        if part == TTS:
            self._voice_ended = True  # so that the failure is not reported a second time when the voice stops
        self._emit(events.Failed(part, explained(frame.error, frame.exception)))

    # --- The caller ---------------------------------------------------------------------------------------

    def _on_speech_started(self, frame: VADUserStartedSpeakingFrame) -> None:
        self.forget_wait()
        self._speech_began = monotonic_of(frame.timestamp) - frame.start_secs
        if self._speech_start is None:
            self._speech_start = self._speech_began

    def _on_speech_stopped(self, frame: VADUserStoppedSpeakingFrame) -> None:
        self._speech_end = self._unanswered_since = monotonic_of(frame.timestamp) - frame.stop_secs
        if not self._bot_speaking and self._speech_end - self._speech_began >= WORDS_S:
            self._emit(events.Awaiting(STT))

    def _on_partial(self, frame: InterimTranscriptionFrame) -> None:
        self._shown = frame
        self._emit(events.Heard(frame.text, is_final=False, language=self._language_of(frame)))

    def _on_final(self, frame: TranscriptionFrame) -> None:
        """Emit the turn with each final, so that it is stored: the process may die before the turn ends."""
        self._shown = None
        self._emit(events.Awaiting(None))
        language = self._language_of(frame)
        self._emit(events.Heard(frame.text, is_final=True, language=language))
        turn = self._caller or self._turns.open(CALLER, self._speech_start or time.monotonic())
        text = f"{turn.text} {frame.text}".strip()
        end_ms = self._turns.ms(self._speech_end)
        self._caller = self._turns.emit(replace(turn, text=text, language=language, end_ms=end_ms))

    def _on_late(self, frame: LateTranscriptionFrame) -> None:
        """An interim transcript has been made final, as the service sent no final."""
        message = f"no final words came within {LATE_S:g} s; those shown count"
        self._emit(events.Failed(STT, message, caller_waits=False))
        self._on_final(frame)

    def _on_nothing_heard(self, _frame: SpeechTranscribedFrame) -> None:
        """The speech had no words: stop waiting for them."""
        self._emit(events.Awaiting(None))

    def _language_of(self, frame: InterimTranscriptionFrame | TranscriptionFrame) -> str:
        return str(frame.language or self._language)

    def _on_caller_turn(self, frame: LLMContextUserTurnFrame) -> None:
        """The turn is over and in the model's context; words that came just now may be in the next."""
        now = time.monotonic()
        turn = self._caller or self._turns.open(CALLER, self._speech_start or now)
        end_ms = self._turns.ms(self._speech_end) or self._turns.ms(now)
        self._turns.emit(replace(turn, text=turn.text or frame.text, end_ms=end_ms))
        if self._unanswered_since is not None:
            self._measured("end_of_turn", now - self._unanswered_since)
        self._caller = None
        self._speech_start = None
        self._failed = False
        if not self._bot_speaking:
            self._agent.leave()
        self._emit(events.Awaiting(LLM))

    def _on_passed_over(self, _frame: PassedOverFrame) -> None:
        """What was said stays a turn of its own, which nobody answers."""
        self._caller = None
        self._speech_start = None
        self.forget_wait()

    # --- The model ----------------------------------------------------------------------------------------

    def _on_reply_started(self, _frame: LLMFullResponseStartFrame) -> None:
        self._reply.start()

    def _on_reply_text(self, _frame: LLMTextFrame) -> None:
        """The model writes: as long as nothing can be spoken yet, more has to come."""
        if self._reply.is_open and self._reply.is_empty and not self._bot_speaking:
            self._emit(events.Awaiting(LLM, goes_on=True))

    def _on_written(self, frame: WrittenFrame) -> None:
        """The voice gets this to say."""
        if self._reply.is_open and not self._bot_speaking:
            self._emit(events.Awaiting(TTS))
        self._reply.add(frame.text)

    def _on_reply_ended(self, _frame: LLMFullResponseEndFrame) -> None:
        if not self._reply.is_open:  # interrupted, and closed already
            return
        if self._reply.is_empty and not self._failed:
            self._emit(events.Failed(LLM, "the language model wrote nothing"))
        self._reply.close()

    def _on_cut(self, frame: ReplyCutFrame | PromptCutFrame) -> None:
        self._emit(events.Shortened(LLM, frame.message))

    # --- The agent's voice --------------------------------------------------------------------------------

    def _on_bot_started(self, _frame: BotStartedSpeakingFrame) -> None:
        now = time.monotonic()
        self._bot_speaking = True
        self._emit(events.Awaiting(None))
        if self._unanswered_since is None:
            self._agent.begin(now)
            return
        self._measured("total", now - self._unanswered_since)
        self._agent.begin(now, self._latencies)
        self.forget_wait()

    def _on_word(self, frame: TTSTextFrame) -> None:
        if not self._sentences.word(frame):
            return
        self._interruptible = frame.interruptible
        self._agent.word(frame, time.monotonic())

    def _on_voice_started(self, _frame: TTSStartedFrame) -> None:
        if self._bot_speaking and self._voice_ended:
            self._waiting_voices += 1
        self._voice_ended = False

    def _on_voice_ended(self, _frame: TTSStoppedFrame) -> None:
        self._voice_ended = True

    def _on_bot_stopped(self, _frame: BotStoppedSpeakingFrame) -> None:
        self._bot_speaking = False
        if self._waiting_voices:
            self._waiting_voices -= 1
        elif not self._voice_ended and not self._reply.is_open:
            self._voice_ended = True
            self._emit(events.Failed(TTS, "the voice broke off"))
        if self._reply.is_open:  # all of it that has come is spoken
            self._emit(events.Awaiting(LLM, goes_on=True))
        self._sentences.end()
        self._agent.pause(time.monotonic())

    def _on_agent_turn(self, _frame: LLMContextAssistantTurnFrame) -> None:
        """The reply is over; not so what is spoken to its end although the caller spoke."""
        if self._interruptible or not self._bot_speaking:
            self._agent.done(time.monotonic(), speaking=self._bot_speaking)

    def _on_interruption(self, _frame: InterruptionFrame) -> None:
        self._reply.close()
        self._sentences.interrupt()
        self._voice_ended = True
        self._waiting_voices = 0
        self._emit(events.Awaiting(None))
        if self._bot_speaking and self._interruptible and (turn := self._agent.interrupt(time.monotonic())):
            self._emit(events.Interrupted(turn.text, turn.number))

    # --- Figures ------------------------------------------------------------------------------------------

    def _on_metrics(self, frame: MetricsFrame) -> None:
        for item in frame.data:
            if isinstance(item, TTFBMetricsData) and item.value > 0:
                part = self._services.part_of(item.processor)
                if part != PIPELINE:
                    self._measured(part, item.value)

    def _measured(self, what: str, seconds: float) -> None:
        ms = max(0, round(seconds * 1000))
        self._latencies[f"{what}_ms"] = ms
        self._emit(events.Measured(what, ms))
