"""What can be asked of the providers there are, and how a Pipecat service is made of one.

The heavy libraries are imported when a service is first made or warmed, so that reading the catalogue
(admin forms, validation, commands) costs nothing.
"""

import asyncio
import importlib
import logging
import reprlib
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from calls.providers import accounts
from calls.providers.entries import LOCAL, PROVIDERS
from calls.providers.provider import SCHEMES, Provider

if TYPE_CHECKING:
    from pipecat.processors.frame_processor import FrameProcessor

logger = logging.getLogger(__name__)

KINDS = ("stt", "llm", "tts")
AUTO = "auto"
CLOSE_SECONDS = 2.0


class ProviderUnavailable(Exception):
    """A provider can't be used now: its key is missing, or it doesn't know the language."""


def choices(kind: str) -> list[tuple[str, str]]:
    """The choices of a profile's form field for a kind. Raises ValueError for an unknown kind."""
    return [(AUTO, "Automatic"), *((p.name, p.label) for p in providers(kind))]


def account_choices() -> list[tuple[str, str]]:
    """The choices of an account's form field: the providers that need a key, each once."""
    return list({p.name: (p.name, p.label) for p in PROVIDERS if p.key}.values())


def schemes(provider: str) -> tuple[str, ...]:
    """The schemes that a base URL of this provider may have; all there are for one that is not known."""
    return next((p.schemes for p in PROVIDERS if p.name == provider), SCHEMES)


def register(provider: Provider) -> None:
    """Add a provider, for profiles that name it; "auto" never stands for it.

    Raises ValueError for an unknown kind and for a name that is taken.
    """
    if provider.name in {AUTO, *(known.name for known in providers(provider.kind))}:
        raise ValueError(f"there is a {provider.kind} provider {provider.name!r} already")
    PROVIDERS.append(provider)


def providers(kind: str) -> tuple[Provider, ...]:
    """The providers of `kind`, the embedded one first. Raises ValueError for an unknown kind."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: expected one of {', '.join(KINDS)}")
    return tuple(p for p in PROVIDERS if p.kind == kind)


def find(kind: str, provider: str) -> Provider:
    """The provider called `provider`. Raises ValueError for an unknown kind or name ("auto" is none)."""
    for candidate in providers(kind):
        if candidate.name == provider:
            return candidate
    names = ", ".join([AUTO, *(p.name for p in providers(kind))])
    raise ValueError(f"unknown {kind} provider {provider!r}: expected one of {names}")


def resolve(kind: str, provider: str) -> str:
    """The provider that "auto" stands for: the cloud one if all kinds have keys, else the embedded one.

    Other names are returned as they are.

    Raises ValueError for an unknown kind or provider.
    """
    if provider != AUTO:
        return find(kind, provider).name
    embedded, cloud, *_ = providers(kind)
    clouds = [providers(each)[1] for each in KINDS]
    keys_set = all(accounts.account_of(each.name, each.key).is_usable for each in clouds)
    return cloud.name if keys_set else embedded.name


def defaults(kind: str, provider: str) -> dict[str, Any]:
    """The default settings of a provider; for "auto", of the provider that it stands for."""
    chosen = find(kind, resolve(kind, provider))
    return {s.name: s.initial for s in chosen.settings if s.initial is not None}


def validate(kind: str, provider: str, settings: Mapping[str, Any]) -> None:
    """Raise ValueError naming the first setting that is unknown or wrong, and what was expected.

    With "auto" a setting has to suit at least one provider of the kind.
    """
    candidates = providers(kind) if provider == AUTO else (find(kind, provider),)
    for name, value in settings.items():
        known = [s for p in candidates for s in p.settings if s.name == name]
        if not known:
            names = ", ".join(dict.fromkeys(s.name for p in candidates for s in p.settings))
            raise ValueError(f"{kind}: unknown setting {reprlib.repr(name)}; expected {names}")
        if not any(s.accepts(value) for s in known):
            wanted = " or ".join(dict.fromkeys(s.expected for s in known))
            raise ValueError(f"{kind}: {name} must be {wanted}, not {reprlib.repr(value)}")


def fit_prompt(provider: str, prompt: str) -> tuple[str, str]:
    """The part of a system prompt that fits the language model, and why it is not all of it ("" if it is).

    Raises ValueError for an unknown provider.
    """
    chosen = find("llm", resolve("llm", provider))
    if (fitting := chosen.fit_prompt(prompt)) == prompt:
        return prompt, ""
    lengths = f"the prompt has {len(prompt):,} characters; {chosen.label} takes {chosen.prompt_chars:,}"
    return fitting, f"{lengths}, and the rest is left out"


def accepted(kind: str, provider: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a client's `settings` that the provider knows and whose values are valid."""
    known = {s.name: s for s in find(kind, resolve(kind, provider)).settings}
    return {k: v for k, v in settings.items() if k in known and known[k].accepts(v)}


def create(
    kind: str, provider: str, settings: Mapping[str, Any], *, language: str, system_prompt: str = ""
) -> "FrameProcessor":
    """Make the Pipecat service; `language` is the call's, such as "en", unless the settings name one.

    `system_prompt` is for a language model only: the embedded one reads it before the first reply is asked
    for. An LLMUpdateSettingsFrame changes it later. Raises ValueError for settings that don't validate and
    ProviderUnavailable when the provider has no key or no code, or doesn't know the language.
    """
    validate(kind, provider, settings)
    chosen = find(kind, resolve(kind, provider))
    account = accounts.account_of(chosen.name, chosen.key) if chosen.key else None
    if account is not None and not account.is_usable:
        raise ProviderUnavailable(f"{chosen.label} needs an enabled account with a key, or {chosen.key}")
    values = defaults(kind, chosen.name) | accepted(kind, chosen.name, settings)
    if kind == "llm" and system_prompt:
        values["system_instruction"] = chosen.fit_prompt(system_prompt)
    language = str(values.pop("language", "") or language)
    if not chosen.knows(language):
        raise ProviderUnavailable(f"{chosen.label} does not know the language {language!r}")
    if account is not None:
        values["account"] = account
    try:
        factory = getattr(importlib.import_module(chosen.module), chosen.factory)
    except (ImportError, AttributeError) as e:
        raise ProviderUnavailable(f"{chosen.label} cannot be loaded: {e}") from e
    service: FrameProcessor = factory(values, language)
    return service


def _embedded_kinds() -> tuple[str, ...]:
    """The kinds for which "auto" stands for the embedded provider now."""
    return tuple(kind for kind in KINDS if resolve(kind, AUTO) == LOCAL)


def _module(kind: str) -> ModuleType:
    """The module of the embedded provider of `kind`, which has warm(), is_ready() and close()."""
    return importlib.import_module(find(kind, LOCAL).module)


def _imported() -> list[ModuleType]:
    """The providers' modules that have been imported so far, each once."""
    return [sys.modules[name] for name in _names() if name in sys.modules]


def _names() -> list[str]:
    return list(dict.fromkeys(provider.module for provider in PROVIDERS))


async def warm() -> None:
    """Load every provider: profiles may choose any of them, and the embedded ones stand in for the others.

    Raises what an embedded model raises that "auto" stands for now; other failures are logged.
    """
    # Importing the libraries takes up to a second: not on the event loop, and one after the other, as
    # concurrent first imports of one library can meet half-made modules.
    modules = await asyncio.to_thread(lambda: [importlib.import_module(name) for name in _names()])
    warming = [module for module in modules if hasattr(module, "warm")]
    results = await asyncio.gather(*(module.warm() for module in warming), return_exceptions=True)
    needed = [_module(kind) for kind in _embedded_kinds()]
    for module, failure in zip(warming, results, strict=True):
        if failure is not None and (module in needed or not isinstance(failure, Exception)):
            raise failure
        if failure is not None:
            logger.error("%s cannot be used: %s", module.__name__, failure)


def ready() -> dict[str, bool]:
    """Whether each kind can serve a call at once; a cloud provider counts as ready when its key is set."""
    embedded, imported = _embedded_kinds(), {module.__name__: module for module in _imported()}

    def is_ready(kind: str) -> bool:
        module = imported.get(find(kind, LOCAL).module)
        return module is not None and module.is_ready()

    return {kind: kind not in embedded or is_ready(kind) for kind in KINDS}


async def close() -> None:
    """Stop the embedded models' threads and close shared connections, within 2 s. Safe to call again."""
    try:
        async with asyncio.timeout(CLOSE_SECONDS):
            await asyncio.gather(*(module.close() for module in _imported() if hasattr(module, "close")))
    except TimeoutError:
        logger.error("the providers did not close within %g s", CLOSE_SECONDS)


async def emergency_speech(text: str, sample_rate: int) -> bytes:
    """`text` in the embedded voice as s16le mono PCM, for when a call's own voice has failed."""
    module = await asyncio.to_thread(_module, "tts")
    pcm: bytes = await module.synthesize(text, sample_rate)
    return pcm
