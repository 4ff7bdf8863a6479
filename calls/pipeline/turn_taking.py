"""When the caller's turn begins and ends: which of Pipecat's strategies decide, by the configuration."""

from dataclasses import dataclass

from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    DataFrame,
    Frame,
    TranscriptionFrame,
)
from pipecat.turns.types import ProcessFrameResult
from pipecat.turns.user_start import (
    BaseUserTurnStartStrategy,
    MinWordsUserTurnStartStrategy,
    TranscriptionUserTurnStartStrategy,
    VADUserTurnStartStrategy,
)
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy, TurnAnalyzerUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies

from calls.events import KEYS_PRESSED
from calls.pipeline.smart_turn import SharedSmartTurn
from calls.profiles.in_force import CallConfig


@dataclass
class PassedOverFrame(DataFrame):
    """What the caller has just said while the agent speaks were too few words: it is left unanswered."""


class SpeechWhileSilent(VADUserTurnStartStrategy):
    """A turn begins with the caller's voice, unless the agent is speaking."""

    _agent_speaks = False

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Follow the agent's voice, and begin a turn with the caller's."""
        if isinstance(frame, (BotStartedSpeakingFrame, BotStoppedSpeakingFrame)):
            self._agent_speaks = isinstance(frame, BotStartedSpeakingFrame)
        elif not self._agent_speaks:
            return await super().process_frame(frame)
        return ProcessFrameResult.CONTINUE

    async def handle_user_turn_started(self) -> None:
        """The caller has taken over: the agent falls silent."""
        self._agent_speaks = False


class EnoughWords(MinWordsUserTurnStartStrategy):
    """A turn begins with so many words while the agent is speaking, else with the first one, or with keys."""

    _in_turn = False

    async def process_frame(self, frame: Frame) -> ProcessFrameResult:
        """Follow the agent's voice, and count the caller's words."""
        is_final = isinstance(frame, TranscriptionFrame)
        if self._in_turn and is_final:  # whatever the agent is saying meanwhile
            return ProcessFrameResult.CONTINUE
        if isinstance(frame, TranscriptionFrame) and frame.text.startswith(KEYS_PRESSED):
            await self.trigger_user_turn_started()
            return ProcessFrameResult.STOP
        result = await super().process_frame(frame)
        if is_final and result is ProcessFrameResult.CONTINUE:
            await self.push_frame(PassedOverFrame())
        return result

    async def handle_user_turn_started(self) -> None:
        """The caller's turn has begun."""
        await super().handle_user_turn_started()
        self._in_turn = True

    async def handle_user_turn_stopped(self) -> None:
        """The caller's turn is over."""
        await super().handle_user_turn_stopped()
        self._in_turn = False


def strategies(config: CallConfig) -> UserTurnStrategies:
    """The strategies that decide in a call of this configuration."""
    interrupt = config.allow_interruptions
    stop = (
        TurnAnalyzerUserTurnStopStrategy(turn_analyzer=SharedSmartTurn())
        if config.end_of_turn == "smart"
        else SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=config.end_of_turn_silence_s)
    )
    if interrupt and config.interruption_words:
        words = EnoughWords(min_words=config.interruption_words)
        return UserTurnStrategies(start=[SpeechWhileSilent(), words], stop=[stop])
    return UserTurnStrategies(start=any_speech(interrupt=interrupt), stop=[stop])


def any_speech(*, interrupt: bool) -> list[BaseUserTurnStartStrategy]:
    """A turn begins with voice or words, whoever speaks; `interrupt`: it cuts the agent short."""
    return [
        VADUserTurnStartStrategy(enable_interruptions=interrupt),
        TranscriptionUserTurnStartStrategy(enable_interruptions=interrupt),
    ]
