"""Follows the conversation from outside the audio path and tells what happened, as it happens.

The processors' own event handlers hand over the few frames that mean something, through a queue to a task:
nothing here can delay audio. (A Pipecat observer is told of every frame between every two processors; for
audio that costs more than the audio itself.) What is told goes to a Listener, which sends it to RustPBX and
stores it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
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
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.string import match_endofsentence
from pipecat.utils.text.simple_text_aggregator import SimpleTextAggregator

from calls.pipeline.hearing import LATE_S, LateTranscriptionFrame
from calls.pipeline.listener import AGENT, CALLER, UNTOLD, Listener, Services, TurnState
from calls.providers.frames import SpeechTranscribedFrame
from calls.rustpbx.messages import LLMResponse, Metrics, Transcription, TTSCompleted, TTSStarted

WORDS_S = 1.0  # speech this long holds words: a service that hears none has failed


TTFB_KEYS = {"stt": "stt", "llm": "llm_ttft", "tts": "tts_ttfb"}


def now_ms() -> int:
    """Milliseconds since 1970, as RustPBX counts time."""
    return time.time_ns() // 1_000_000


def sentences_of(text: str) -> list[str]:
    """The text cut at the ends of its sentences."""
    sentences = []
    while end := match_endofsentence(text):
        sentences.append(text[:end].strip())
        text = text[end:]
    return [sentence for sentence in [*sentences, text.strip()] if sentence]


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


class ConversationObserver:
    """Turns frames into the conversation: who said what, when, and how long it took.

    Args:
        services: the call's processors.
        listener: is told what happened.
        started: when the call started, in seconds since 1970.
        language: of the call, for transcripts whose service names none.
    """

    def __init__(self, services: Services, listener: Listener, *, started: float, language: str) -> None:
        self._services = services
        self._listener = listener
        self._started = started
        self._language = language
        self._frames: asyncio.Queue[Frame] = asyncio.Queue()
        self._turns = 0
        self._caller: TurnState | None = None
        self._agent: TurnState | None = None
        self._agent_text_is_final = False
        self._speech_start: float | None = None  # of the caller's turn, seconds since 1970
        self._speech_began = 0.0  # of its latest stretch without a pause
        self._speech_end: float | None = None
        self._unanswered_since: float | None = None
        self._latency: dict[str, int] = {}
        self._shown: InterimTranscriptionFrame | None = None  # words that no final has come for
        self._bot_speaking = False
        self._voice_ended = True  # the voice said that it was done, before it fell silent
        self._interruptible = True  # what is being spoken; the farewell is not
        self._failed = False  # a service, since the caller's last turn
        self._announced: dict[int, str] = {}  # texts about to be spoken, by the frame's id
        self._segment: int | None = None  # the text being spoken
        self._sentences: deque[str] = deque()  # of that text, still to come
        self._sentence = ""  # the one being spoken
        self._spoken: list[str] = []  # its words so far
        self._reply: list[str] | None = None  # the model's text so far, while it writes
        self._splitter = SimpleTextAggregator()
        self._handlers: dict[type[Frame], Callable[[Any], Awaitable[None] | None]] = {
            InterimTranscriptionFrame: self._on_partial,
            TranscriptionFrame: self._on_final,
            LateTranscriptionFrame: self._on_late,
            VADUserStartedSpeakingFrame: self._on_speech_started,
            VADUserStoppedSpeakingFrame: self._on_speech_stopped,
            SpeechTranscribedFrame: self._on_nothing_heard,
            LLMContextUserTurnFrame: self._on_caller_turn,
            LLMFullResponseStartFrame: self._on_reply_started,
            LLMTextFrame: self._on_reply_text,
            LLMFullResponseEndFrame: self._on_reply_ended,
            AggregatedTextFrame: self._on_announcement,
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
        # Each kind of frame is taken where it means what happened: words where they are played, for instance.
        self._tap(services.stt, MetricsFrame)
        self._tap(services.words, InterimTranscriptionFrame, TranscriptionFrame, LateTranscriptionFrame)
        self._tap(services.words, SpeechTranscribedFrame)
        self._tap(services.words, VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)  # passing by
        self._tap(services.caller, LLMContextUserTurnFrame, InterruptionFrame)
        self._tap(
            services.llm, LLMFullResponseStartFrame, LLMTextFrame, LLMFullResponseEndFrame, MetricsFrame
        )
        self._tap(services.tts, AggregatedTextFrame, TTSStartedFrame, TTSStoppedFrame, MetricsFrame)
        self._tap(services.output, BotStartedSpeakingFrame, TTSTextFrame, BotStoppedSpeakingFrame)
        self._tap(services.agent, LLMContextAssistantTurnFrame)
        for processor in (services.stt, services.llm, services.tts, services.output):
            processor.add_event_handler("on_error", self._take_error)

    async def run(self) -> None:
        """Follow the conversation, until cancelled."""
        while True:
            await self._follow(await self._frames.get())

    async def drain(self) -> None:
        """Follow what is left once the pipeline has stopped, and end what it was saying."""
        while not self._frames.empty():
            await self._follow(self._frames.get_nowait())
        if self._shown is not None:  # the caller hung up in the middle of a sentence
            self._speech_end = time.time()
            self._on_final(TranscriptionFrame(self._shown.text, "", "", self._shown.language))
        if self._bot_speaking:
            self._voice_ended = True  # by us: it did not break off
            self._on_bot_stopped(BotStoppedSpeakingFrame())

    async def _follow(self, frame: Frame) -> None:
        told = self._handlers[type(frame)](frame)
        if told is not None:
            await told

    def _tap(self, processor: FrameProcessor, *kinds: type[Frame]) -> None:
        """Take these kinds of frames when the processor pushes them."""
        wanted = frozenset(kinds)

        def take(_processor: FrameProcessor, frame: Frame) -> None:
            if type(frame) not in wanted or (frame.broadcast_sibling_id or frame.id) < frame.id:
                return  # of a frame that goes both ways, the first made counts
            if isinstance(frame, MetricsFrame) and frame.data[0].processor != processor.name:
                return  # another's, passing by
            self._frames.put_nowait(frame)

        processor.add_event_handler("on_before_push_frame", take)

    def _take_error(self, processor: FrameProcessor, frame: ErrorFrame) -> None:
        frame.processor = frame.processor or processor
        self._frames.put_nowait(frame)

    def _on_error(self, frame: ErrorFrame) -> None:
        self._failed = True
        kind = self._services.kind_of(frame.processor)
        if kind == "tts":
            self._voice_ended = True  # and not to be told of again
        self._listener.provider_failed(kind, frame.error)

    # --- The caller ---------------------------------------------------------------------------------------

    def _on_speech_started(self, frame: VADUserStartedSpeakingFrame) -> None:
        self._unanswered_since = None
        self._latency = {}
        self._speech_began = frame.timestamp - frame.start_secs
        if self._speech_start is None:
            self._speech_start = self._speech_began

    def _on_speech_stopped(self, frame: VADUserStoppedSpeakingFrame) -> None:
        self._speech_end = self._unanswered_since = frame.timestamp - frame.stop_secs
        if not self._bot_speaking and self._speech_end - self._speech_began >= WORDS_S:
            self._listener.awaiting("stt")

    def _on_partial(self, frame: InterimTranscriptionFrame) -> None:
        self._shown = frame
        self._tell_transcription(frame, is_final=False)

    def _on_final(self, frame: TranscriptionFrame) -> None:
        """Store what the caller said at once: the turn may go on for seconds, the process may not."""
        self._shown = None
        self._listener.awaiting(None)
        language = self._tell_transcription(frame, is_final=True)
        turn = self._caller or self._open(CALLER, self._speech_start or time.time())
        text = f"{turn.text} {frame.text}".strip()
        self._caller = self._told(
            replace(turn, text=text, language=language, end_ms=self._ms(self._speech_end))
        )

    def _on_late(self, frame: LateTranscriptionFrame) -> None:
        """The recogniser showed words and made no final of them."""
        self._listener.provider_faltered("stt", f"no final words came within {LATE_S:g} s; those shown count")
        self._on_final(frame)

    def _on_nothing_heard(self, _frame: SpeechTranscribedFrame) -> None:
        """There were no words in the speech: none are waited for."""
        self._listener.awaiting(None)

    def _tell_transcription(
        self, frame: InterimTranscriptionFrame | TranscriptionFrame, *, is_final: bool
    ) -> str:
        language = str(frame.language or self._language)
        self._listener.tell(
            Transcription(timestamp=now_ms(), text=frame.text, is_final=is_final, language=language)
        )
        return language

    def _on_caller_turn(self, frame: LLMContextUserTurnFrame) -> None:
        """The turn is over and in the model's context."""
        turn = self._caller or self._open(CALLER, self._speech_start or time.time())
        end_ms = self._ms(self._speech_end) or self._ms(time.time())
        self._told(replace(turn, text=frame.text, end_ms=end_ms))
        self._caller = None
        self._speech_start = None
        self._failed = False
        self._listener.awaiting("llm")

    # --- The model ----------------------------------------------------------------------------------------

    async def _on_reply_started(self, _frame: LLMFullResponseStartFrame) -> None:
        self._reply = []
        await self._splitter.reset()

    async def _on_reply_text(self, frame: LLMTextFrame) -> None:
        if self._reply is None:
            return
        if not self._reply:
            self._listener.awaiting(None if self._bot_speaking else "tts")
        self._reply.append(frame.text)
        async for sentence in self._splitter.aggregate(frame.text):
            self._tell_reply(sentence.text, is_complete=False)

    async def _on_reply_ended(self, _frame: LLMFullResponseEndFrame) -> None:
        if self._reply is None:  # interrupted, and told already
            return
        if rest := await self._splitter.flush():
            self._tell_reply(rest.text, is_complete=False)
        if not self._reply and not self._failed:
            self._listener.provider_failed("llm", "the language model wrote nothing")
        self._complete_reply()

    def _complete_reply(self) -> None:
        if self._reply:
            self._tell_reply("".join(self._reply), is_complete=True)
        self._reply = None

    def _tell_reply(self, text: str, *, is_complete: bool) -> None:
        if text := text.strip():
            self._listener.tell(LLMResponse(timestamp=now_ms(), text=text, is_complete=is_complete))

    # --- The agent's voice --------------------------------------------------------------------------------

    def _on_announcement(self, frame: AggregatedTextFrame) -> None:
        self._announced[frame.id] = frame.text

    def _on_bot_started(self, _frame: BotStartedSpeakingFrame) -> None:
        now = time.time()
        self._bot_speaking = True
        self._listener.awaiting(None)
        agent = self._agent_turn(now)
        if self._unanswered_since is not None:
            self._measured("turn_latency", now - self._unanswered_since)
            self._unanswered_since = None
            self._agent = replace(agent, latency=self._latency)
            self._latency = {}

    def _agent_turn(self, now: float) -> TurnState:
        """The agent's turn, which begins now if none has."""
        if self._agent is None or self._agent.interrupted:
            self._agent = self._open(AGENT, now)
            self._agent_text_is_final = False
        return self._agent

    def _on_word(self, frame: TTSTextFrame) -> None:
        """A word has been spoken (a whole sentence, from a service without word times)."""
        if frame.segment_id != self._segment or frame.segment_id is None:
            self._end_sentence()
            self._segment = frame.segment_id
            text = self._announced.pop(frame.segment_id, frame.text) if frame.segment_id else frame.text
            self._sentences = deque(sentences_of(text))
        elif _letters("".join(self._spoken)) >= _letters(self._sentence):
            self._end_sentence()
        if not self._spoken:
            self._sentence = self._sentences.popleft() if self._sentences else frame.text
            self._listener.tell(TTSStarted(timestamp=now_ms(), text=self._sentence))
        self._spoken.append(frame.text)
        self._interruptible = frame.interruptible
        agent = self._agent or self._agent_turn(time.time())  # a word may come just before its voice
        if not self._agent_text_is_final and frame.append_to_context:
            self._agent = self._told(replace(agent, text=f"{agent.text} {frame.text}".strip()))

    def _end_sentence(self) -> None:
        """The sentence is over, or was cut off: tell what was spoken of it."""
        if self._spoken:
            self._listener.tell(TTSCompleted(timestamp=now_ms(), text=" ".join(self._spoken)))
        self._spoken = []

    def _on_voice_started(self, _frame: TTSStartedFrame) -> None:
        self._voice_ended = False

    def _on_voice_ended(self, _frame: TTSStoppedFrame) -> None:
        self._voice_ended = True

    def _on_bot_stopped(self, _frame: BotStoppedSpeakingFrame) -> None:
        self._bot_speaking = False
        if not self._voice_ended and self._reply is None:
            self._voice_ended = True
            self._listener.provider_failed("tts", "the voice broke off")
        self._end_sentence()
        if self._agent is not None:
            self._agent = self._told(replace(self._agent, end_ms=self._ms(time.time())))
            if self._agent_text_is_final:
                self._agent = None

    def _on_agent_turn(self, frame: LLMContextAssistantTurnFrame) -> None:
        """The agent's turn is in the model's context, as far as it was spoken."""
        if self._bot_speaking and not self._interruptible:
            return  # the caller spoke into it: the rest is still being spoken, and added word by word
        turn = self._agent or self._open(AGENT, time.time())
        end_ms = None if self._bot_speaking else turn.end_ms or self._ms(time.time())
        turn = self._told(replace(turn, text=frame.text, end_ms=end_ms))
        self._agent = turn if self._bot_speaking else None
        self._agent_text_is_final = True

    def _on_interruption(self, _frame: InterruptionFrame) -> None:
        self._complete_reply()
        self._announced.clear()
        self._voice_ended = True
        self._listener.awaiting(None)
        if self._agent is not None and self._bot_speaking and self._interruptible:
            self._end_sentence()
            turn = replace(self._agent, interrupted=True, end_ms=self._ms(time.time()))
            self._listener.interrupted(turn.text)
            self._agent = self._told(turn) if turn.text else None

    # --- Figures ------------------------------------------------------------------------------------------

    def _on_metrics(self, frame: MetricsFrame) -> None:
        for item in frame.data:
            if isinstance(item, TTFBMetricsData) and item.value > 0:
                kind = self._services.kind_of(item.processor)
                if kind in TTFB_KEYS:
                    self._measured(TTFB_KEYS[kind], item.value)

    def _measured(self, key: str, seconds: float) -> None:
        duration = max(0, round(seconds * 1000))
        self._latency[key] = duration
        self._listener.tell(Metrics(timestamp=now_ms(), key=key, duration=duration))

    def _open(self, speaker: str, at: float) -> TurnState:
        return TurnState(speaker=speaker, start_ms=self._ms(at) or 0, language=self._language)

    def _told(self, turn: TurnState) -> TurnState:
        """Tell of a turn, unless nothing was said in it; the turn with its index."""
        if not turn.text:
            return turn
        if turn.index == UNTOLD:
            turn = replace(turn, index=self._turns)
            self._turns += 1
        self._listener.turn(turn)
        return turn

    def _ms(self, at: float | None) -> int | None:
        return None if at is None else max(0, round((at - self._started) * 1000))
