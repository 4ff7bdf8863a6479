"""The configuration in force for one call: its profile's, with the changes that the client may make."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from calls.events import Request
from calls.providers import catalogue


@dataclass(frozen=True, slots=True)
class Provider:
    """One service of the pipeline: its name in the catalogue and its settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CallConfig:
    """A call's frozen configuration. Durations are in seconds.

    Made of a profile, it names each provider for good: what "auto" stands for is decided once for a call.
    """

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
    transfer_announcement: str = ""  # {destination} stands for whom the call is transferred to

    @classmethod
    def from_profile(cls, profile: Mapping[str, Any]) -> "CallConfig":
        """The configuration of a profile's version, for one call.

        Raises:
            KeyError: the version lacks a field.
        """
        return cls(
            stt=_resolved("stt", profile["stt_provider"], profile["stt_settings"]),
            llm=_resolved("llm", profile["llm_provider"], profile["llm_settings"]),
            tts=_resolved("tts", profile["tts_provider"], profile["tts_settings"]),
            **{name: profile[name] for name in _SAME_NAMES},
        )

    def prompt_for(self, client_prompt: str | None) -> str:
        """The system prompt in force when the client has sent `client_prompt` (None or "": none)."""
        if not client_prompt or self.prompt_policy == "ignore":
            return self.system_prompt
        if self.prompt_policy == "replace" or not self.system_prompt:
            return client_prompt
        return f"{self.system_prompt}\n\n{client_prompt}"


def _resolved(kind: str, name: str, settings: Mapping[str, Any]) -> Provider:
    """The provider meant, with those of the settings that it takes.

    What the catalogue does not know, or nobody takes, stays: the service cannot be made, which tells why.
    """
    try:
        catalogue.validate(kind, name, settings)
    except ValueError:
        return Provider(name, settings)
    provider = catalogue.resolve(kind, name)
    return Provider(provider, catalogue.accepted(kind, provider, settings))


_SAME_NAMES = [f.name for f in fields(CallConfig) if f.name not in catalogue.KINDS]


def for_request(configuration: Mapping[str, Any], request: Request) -> CallConfig:
    """The profile's configuration, with the client's provider settings if the profile opted in to them.

    Raises:
        KeyError: the configuration lacks a field.
    """
    config = CallConfig.from_profile(configuration)
    if not configuration["use_client_settings"]:
        return config

    def merged(kind: str, provider: Provider, wish: Mapping[str, Any] | None) -> Provider:
        with suppress(ValueError):  # a provider that is gone, which has no service either
            accepted = catalogue.accepted(kind, provider.name, wish or {})
            return Provider(provider.name, {**provider.settings, **accepted})
        return provider

    return replace(
        config,
        stt=merged("stt", config.stt, request.stt),
        llm=merged("llm", config.llm, request.llm),
        tts=merged("tts", config.tts, request.tts),
    )


def wanted(config: CallConfig, kind: str) -> str:
    """The name of the profile's provider, with "auto" resolved; a name unknown to the catalogue is kept."""
    provider: Provider = getattr(config, kind)
    with suppress(ValueError):
        return catalogue.resolve(kind, provider.name)
    return provider.name


def in_force(config: CallConfig, stood_in: Mapping[str, str], *, is_typed: bool = False) -> dict[str, Any]:
    """The services that answer, by kind: provider, all settings, and, for a stand-in, the provider replaced.

    Args:
        config: the call's configuration.
        stood_in: by kind, why the embedded provider stands in for the profile's.
        is_typed: the caller types and reads: only the language model answers.
    """
    shown: dict[str, Any] = {}
    for kind in ["llm"] if is_typed else catalogue.KINDS:
        name = wanted(config, kind)
        if why := stood_in.get(kind):
            local, defaults = catalogue.LOCAL, catalogue.defaults(kind, catalogue.LOCAL)
            shown[kind] = {"provider": local, "settings": defaults, "instead_of": name, "why": why}
        else:
            settings = catalogue.defaults(kind, name) | dict(getattr(config, kind).settings)
            shown[kind] = {"provider": name, "settings": settings}
    return shown
