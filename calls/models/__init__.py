"""What is kept: profiles and their versions, accounts, PBXes, nodes, calls, their turns and their events."""

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
from .pbx import Destination, DestinationKind, Pbx, PbxKind, PbxRoute, SampleRate
from .pbx_session import Decision, PbxSession, SessionState
from .profile import EndOfTurn, PromptPolicy, PromptProfile, PromptProfileQuerySet
from .search import CallNames
from .session import CallSession, CallSessionQuerySet
from .transcript import CallEvent, EventKind, EventRow, Failure, Severity, Speaker, Turn, TurnRow
from .trial import TrialTicket
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
    "Pbx",
    "PbxKind",
    "PbxRoute",
    "PbxSession",
    "ProfileVersion",
    "PromptPolicy",
    "PromptProfile",
    "PromptProfileQuerySet",
    "ProviderAccount",
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
