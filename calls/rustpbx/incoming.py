"""From RustPBX's `configure`, and the URL it connected to, to what the client asks for."""

from calls.events import Request
from calls.rustpbx.messages import Configure, Url


def request_of(configure: Configure, url: Url) -> Request:
    """What the client asks for. The URL's parameters count where `configure` says nothing."""
    return Request(
        room_id=configure.room_id,
        system_prompt=configure.system_prompt,
        stt=configure.stt_config,
        llm=configure.llm_config,
        tts=configure.tts_config,
        profile=configure.profile or url.profile,
        caller=configure.caller or url.caller,
        callee=configure.callee or url.callee,
        metadata=configure.metadata or url.metadata,
        version=url.version if configure.profile in (None, "", url.profile) else None,
    )
