"""What is known of a call: its choices, and dataclasses whose fields are columns of CallSession."""

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models


class CallStatus(models.TextChoices):
    """Where a call is in its life."""

    ACTIVE = "active", "Active"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    INTERRUPTED = "interrupted", "Interrupted"


class EndReason(models.TextChoices):
    """Why a call ended."""

    DISCONNECT = "disconnect", "Client hung up"
    CLOSED = "closed", "Connection closed"
    AUDIO_STOPPED = "audio_ended", "Audio stopped"
    IDLE = "idle", "No audio came"
    MAX_DURATION = "max_duration", "Longest duration reached"
    HUNG_UP = "hung_up", "Agent hung up"
    TRANSFERRED = "transferred", "Transferred"
    NOT_BACK = "not_back", "Transferred, no more was heard of it"
    DRAINED = "drained", "Farewell, as the server stops"
    SHUTDOWN = "shutdown", "Server stopped"
    ABUSE = "abuse", "Client misbehaved"
    OVERFLOW = "overflow", "Could not be answered"
    ERROR = "error", "Error"
    CRASH = "crash", "Server died"


class ClientGeneration(models.TextChoices):
    """What kind of client called, told from how it streams."""

    SEED = "seed", "RustPBX of October 2025"
    NEW = "new", "RustPBX of November 2025 or later"
    FREE = "free", "Free-running"
    JSON = "json", "JSON audio"
    BRIDGE = "bridge", "RustPBX's bridge"
    BROWSER = "browser", "A browser"


@dataclass(frozen=True, slots=True)
class Description:
    """What a client tells of its call."""

    room_id: str
    caller: str
    callee: str
    metadata: Mapping[str, Any]
    client_configs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class CallStart:
    """A call that began. `version_id` is the profile's version that answers, `node_id` the process's boot.

    Of a test call that tries unsaved values of a profile, those are `draft`, and `profile_id` is the profile.
    """

    id: UUID
    version_id: int | None
    description: Description
    started_at: datetime
    remote_address: str
    node_id: UUID | None
    is_test: bool = False
    profile_id: int | None = None
    draft: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class CallProgress:
    """How far a call has got that goes on; audio in seconds, `last_audio_at` of the caller's."""

    audio_in_s: float
    audio_out_s: float
    client_generation: str
    last_audio_at: datetime | None


@dataclass(frozen=True, slots=True)
class CallEnd:
    """A call that ended; audio in seconds. `error` is what ended it, if something went wrong."""

    id: UUID
    status: str
    end_reason: str
    ended_at: datetime
    audio_in_s: float
    audio_out_s: float
    client_generation: str
    error: str = ""


def turn_totals(latencies: Iterable[int | None]) -> dict[str, int | None]:
    """Return turn count, median and worst latency (ms) of a call from its turns' latencies."""
    turns = list(latencies)
    values = [value for value in turns if value is not None]
    return {
        "turn_count": len(turns),
        "median_latency_ms": round(statistics.median(values)) if values else None,
        "worst_latency_ms": max(values, default=None),
    }
