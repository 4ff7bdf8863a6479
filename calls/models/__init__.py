"""What is kept: prompt profiles, call sessions, their turns and their events."""

from .profile import (
    EndOfTurn,
    LlmProvider,
    PromptPolicy,
    PromptProfile,
    PromptProfileQuerySet,
    SttProvider,
    TtsProvider,
)
from .search import CallNames
from .session import CallSession, CallSessionQuerySet, CallStatus, ClientGeneration, EndReason
from .transcript import CallEvent, EventKind, EventRow, Speaker, Turn, TurnRow

__all__ = [
    "CallEvent",
    "CallNames",
    "CallSession",
    "CallSessionQuerySet",
    "CallStatus",
    "ClientGeneration",
    "EndOfTurn",
    "EndReason",
    "EventKind",
    "EventRow",
    "LlmProvider",
    "PromptPolicy",
    "PromptProfile",
    "PromptProfileQuerySet",
    "Speaker",
    "SttProvider",
    "TtsProvider",
    "Turn",
    "TurnRow",
]
