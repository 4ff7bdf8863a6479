"""From RustPBX's `configure`, and the URL it connected to, to what the client asks for."""

import json
from collections.abc import Mapping
from typing import Any

from calls.events import Request
from calls.rustpbx.messages import Configure, ErrorCode, ProtocolError


def request_of(configure: Configure, query: Mapping[str, str], metadata: Mapping[str, Any]) -> Request:
    """What the client asks for. The URL's parameters and `metadata` count where `configure` says nothing."""
    return Request(
        room_id=configure.room_id,
        system_prompt=configure.system_prompt,
        stt=configure.stt_config,
        llm=configure.llm_config,
        tts=configure.tts_config,
        profile=configure.profile or query.get("profile"),
        caller=configure.caller or query.get("caller"),
        callee=configure.callee or query.get("callee"),
        metadata=configure.metadata or metadata,
    )


def metadata_of(query: Mapping[str, str]) -> dict[str, Any]:
    """The metadata in the URL.

    Raises:
        ProtocolError: it is no JSON object (422).
    """
    try:
        metadata = json.loads(query.get("metadata", "{}"))
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise ProtocolError(ErrorCode.BAD_VALUE, "expected metadata in the URL to be a JSON object")
    return metadata
