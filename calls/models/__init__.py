"""What is kept: profiles and their versions, accounts, nodes, calls, their turns and their events."""

from .account import ProviderAccount
from .facts import (
    CallEnd,
    CallProgress,
    CallStart,
    CallStatus,
    ClientGeneration,
    Description,
    EndReason,
    turn_totals,
)
from .node import Node, NodeRow, NodeState
from .profile import EndOfTurn, PromptPolicy, PromptProfile, PromptProfileQuerySet
from .search import CallNames
from .session import CallSession, CallSessionQuerySet
from .transcript import CallEvent, EventKind, EventRow, Failure, Severity, Speaker, Turn, TurnRow
from .version import ProfileVersion, VersionIsImmutable

__all__ = [
    "CallEnd",
    "CallEvent",
    "CallNames",
    "CallProgress",
    "CallSession",
    "CallSessionQuerySet",
    "CallStart",
    "CallStatus",
    "ClientGeneration",
    "Description",
    "EndOfTurn",
    "EndReason",
    "EventKind",
    "EventRow",
    "Failure",
    "Node",
    "NodeRow",
    "NodeState",
    "ProfileVersion",
    "PromptPolicy",
    "PromptProfile",
    "PromptProfileQuerySet",
    "ProviderAccount",
    "Severity",
    "Speaker",
    "Turn",
    "TurnRow",
    "VersionIsImmutable",
    "turn_totals",
]
