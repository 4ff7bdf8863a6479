"""The configuration in force for one call: its profile's, with the changes that the client may make."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any

from calls.events import Request
from calls.profiles import templates
from calls.providers import catalogue


@dataclass(frozen=True, slots=True)
class Provider:
    """One service of the pipeline: its name in the catalogue and its settings."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StandIn:
    """The provider that answers instead of the profile's, and why."""

    provider: str
    why: str


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
    transfer_announcement: str = ""  # a template: where the call is transferred to is known only then
    opens: str = "agent"  # or "caller"
    interruption_words: int = 0  # before the agent stops speaking; 0: any speech
    end_phrases: str = ""  # one a line
    noise_suppression: bool = False
    speech_speed: float = 1.0  # 1: the voice's own
    stt_fallback: str = ""  # a provider; "" is the embedded one
    llm_fallback: str = ""
    tts_fallback: str = ""
    values: Mapping[str, str] = field(default_factory=dict)  # of the texts' names

    @classmethod
    def from_profile(cls, profile: Mapping[str, Any]) -> "CallConfig":
        """The configuration of a profile's version, for one call.

        Raises:
            KeyError: the version lacks a field.
        """
        return cls(
            stt=_resolved("stt", profile["stt_provider"], profile["stt_settings"]),
            llm=_resolved("llm", profile["llm_provider"], profile["llm_settings"]),
            tts=_at_speed(
                _resolved("tts", profile["tts_provider"], profile["tts_settings"]), profile["speech_speed"]
            ),
            **{name: profile[name] for name in _SAME_NAMES},
        )

    def fallbacks(self, kind: str) -> list[tuple[str, Mapping[str, Any]]]:
        """The providers that may take over, with their settings: the one named, and the embedded one."""
        named = getattr(self, f"{kind}_fallback")
        names = dict.fromkeys(name for name in (named, catalogue.LOCAL) if name)
        return [(name, self._speed_of(kind, name)) for name in names]

    def _speed_of(self, kind: str, name: str) -> Mapping[str, Any]:
        with suppress(ValueError):  # a provider that is gone
            return catalogue.find(kind, name).at_speed(self.speech_speed)
        return {}

    def announcement(self, destination: str) -> str:
        """What is spoken before the call is transferred to a destination, which people call so."""
        return templates.render(self.transfer_announcement, {**self.values, "destination": destination})

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


def _at_speed(voice: Provider, speed: float) -> Provider:
    """The voice at this speed, as far as it can; its own setting counts, if there is one."""
    with suppress(ValueError):  # a provider that is gone
        return Provider(voice.name, catalogue.find("tts", voice.name).at_speed(speed) | dict(voice.settings))
    return voice


_SAME_NAMES = [f.name for f in fields(CallConfig) if f.name not in (*catalogue.KINDS, "values")]


def for_request(configuration: Mapping[str, Any], request: Request, profile: str = "") -> CallConfig:
    """The profile's configuration for this call, with its texts as they are spoken.

    The client's provider settings are in it if the profile opted in to them. `profile` is its name.

    Raises:
        KeyError: the configuration lacks a field.
    """
    config = CallConfig.from_profile(configuration)
    values = templates.values_of(
        caller=request.caller,
        callee=request.callee,
        profile=profile,
        metadata=request.metadata,
        language=config.language,
    )
    known_now = [name for name, later in templates.TEXTS.items() if not later]
    spoken: dict[str, Any] = {name: templates.render(getattr(config, name), values) for name in known_now}
    config = replace(config, **spoken, values=values)
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


def in_force(
    config: CallConfig, stood_in: Mapping[str, StandIn], *, is_typed: bool = False
) -> dict[str, Any]:
    """The services that answer, by kind: provider, all settings, and, for a stand-in, the provider replaced.

    Args:
        config: the call's configuration.
        stood_in: by kind, who stands in for the profile's provider.
        is_typed: the caller types and reads: only the language model answers.
    """
    shown: dict[str, Any] = {}
    for kind in ["llm"] if is_typed else catalogue.KINDS:
        name = wanted(config, kind)
        if instead := stood_in.get(kind):
            settings = catalogue.defaults(kind, instead.provider)
            settings.update(dict(config.fallbacks(kind)).get(instead.provider, {}))
            shown[kind] = {
                "provider": instead.provider, "settings": settings, "instead_of": name, "why": instead.why,
            }  # fmt: skip
        else:
            settings = catalogue.defaults(kind, name) | dict(getattr(config, kind).settings)
            shown[kind] = {"provider": name, "settings": settings}
    return shown
