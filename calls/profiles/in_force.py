"""What one call is to be like, decided before it starts and then unchanging."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Provider:
    """One service of the pipeline: its name in the catalogue and its settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallConfig:
    """A call's frozen configuration. Durations are in seconds."""

    system_prompt: str
    greeting: str
    apology: str
    farewell: str
    language: str
    stt: Provider
    llm: Provider
    tts: Provider
    prompt_policy: str = "append"  # what a client's prompt does: replace, append or ignore
    allow_interruptions: bool = True
    end_of_turn: str = "smart"  # or "silence"
    end_of_turn_silence_s: float = 0.8
    max_duration_s: float = 3600.0

    @classmethod
    def from_profile(cls, profile: Mapping[str, Any]) -> "CallConfig":
        """The configuration of a profile's version, for one call.

        Raises:
            KeyError: the version lacks a field.
        """
        return cls(
            stt=Provider(profile["stt_provider"], profile["stt_settings"]),
            llm=Provider(profile["llm_provider"], profile["llm_settings"]),
            tts=Provider(profile["tts_provider"], profile["tts_settings"]),
            **{name: profile[name] for name in _SAME_NAMES},
        )

    def prompt_for(self, client_prompt: str | None) -> str:
        """The system prompt in force when the client has sent this one (None or "": none)."""
        if not client_prompt or self.prompt_policy == "ignore":
            return self.system_prompt
        if self.prompt_policy == "replace" or not self.system_prompt:
            return client_prompt
        return f"{self.system_prompt}\n\n{client_prompt}"


_SAME_NAMES = (
    "system_prompt",
    "greeting",
    "apology",
    "farewell",
    "language",
    "prompt_policy",
    "allow_interruptions",
    "end_of_turn",
    "end_of_turn_silence_s",
    "max_duration_s",
)
