"""What is kept: profiles and their versions, accounts, PBXes, nodes, calls, their turns and their events."""

from .account import ProviderAccount
from .behaviour import EndOfTurn, PromptPolicy
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
from .manners import Opening
from .node import Node, NodeRow, NodeState
from .pbx import Destination, DestinationKind, Pbx, PbxKind, PbxRoute, SampleRate
from .pbx_session import Decision, PbxSession, SessionState
from .profile import PromptProfile, PromptProfileQuerySet
from .rule import Asked, Calendar, OnHolidays, Rule
from .search import CallNames
from .session import CallSession, CallSessionQuerySet
from .transcript import CallEvent, EventKind, EventRow, Failure, Severity, Speaker, Turn, TurnRow
from .trial import TrialTicket
from .version import ProfileVersion, VersionIsImmutable

__all__ = [
    "Asked",
    "Calendar",
    "CallEnd",
    "CallEvent",
    "CallNames",
    "CallProgress",
    "CallSession",
    "CallSessionQuerySet",
    "CallStart",
    "CallStatus",
    "ClientGeneration",
    "Decision",
    "Description",
    "Destination",
    "DestinationKind",
    "EndOfTurn",
    "EndReason",
    "EventKind",
    "EventRow",
    "Failure",
    "Node",
    "NodeRow",
    "NodeState",
    "OnHolidays",
    "Opening",
    "Pbx",
    "PbxKind",
    "PbxRoute",
    "PbxSession",
    "ProfileVersion",
    "PromptPolicy",
    "PromptProfile",
    "PromptProfileQuerySet",
    "ProviderAccount",
    "Rule",
    "SampleRate",
    "SessionState",
    "Severity",
    "Speaker",
    "TrialTicket",
    "Turn",
    "TurnRow",
    "VersionIsImmutable",
    "turn_totals",
]
