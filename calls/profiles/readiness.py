"""Whether a profile would work in a call as it is configured, part by part, and why it would not.

The catalogue is asked, and which keys are set; nothing is tried. `accounts.refresh` reads the keys that are
stored in the database, and has to be called before.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from calls.profiles.languages import name_of
from calls.providers import accounts, catalogue

READY, WARNING, ERROR = LEVELS = ("ready", "warning", "error")
PARTS = {"stt": "Hearing", "llm": "Thinking", "tts": "Voice"}
CHARACTERS_A_SECOND = 14  # of an unhurried voice


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be said of one part of a configuration.

    `level` is "ready", "warning" (a call works, though not as configured) or "error" (it would not work).
    `field` is the profile's field it is about, and `setting` the one of the provider, if it is about that.
    """

    level: str
    part: str
    message: str
    field: str = ""
    setting: str = ""


def readiness(configuration: Mapping[str, Any]) -> list[Finding]:
    """What there is to say of a configuration: at least one finding for each of its parts.

    Raises KeyError if it lacks a field.
    """
    found = [finding for kind in catalogue.KINDS for finding in _service(kind, configuration)]
    return [*found, *_prompt(configuration), *_limits(configuration)]


def errors(findings: Iterable[Finding]) -> list[Finding]:
    """Those for which a profile is not published."""
    return [finding for finding in findings if finding.level == ERROR]


def worst(findings: Iterable[Finding]) -> str:
    """The worst level among them."""
    return max((finding.level for finding in findings), key=LEVELS.index, default=READY)


# --- Who hears, thinks and speaks -------------------------------------------------------------------------


def _service(kind: str, configuration: Mapping[str, Any]) -> Iterator[Finding]:
    """What to say of one of the services; "ready" if there is nothing else."""
    part, name = PARTS[kind], configuration[f"{kind}_provider"]
    try:
        provider = catalogue.find(kind, catalogue.resolve(kind, name))
    except ValueError:
        yield Finding(ERROR, part, f"{name}: there is no such provider here", f"{kind}_provider")
        return
    settings, language = configuration[f"{kind}_settings"], configuration["language"]
    if not isinstance(settings, dict):
        yield Finding(ERROR, part, "the settings are no JSON object", f"{kind}_settings")
        return
    keyless = [*_credentials(kind, provider, language)]
    found = [*_settings(kind, name, provider, settings), *keyless]
    language = str(settings.get("language") or language)
    if not provider.knows(language) and not keyless:
        found.append(Finding(ERROR, part, _does_not_know(name, provider, language), "language"))
    elif language.split("-")[0] != configuration["language"].split("-")[0]:
        spoken = name_of(configuration["language"])
        said = f"listens for {name_of(language)}, and the profile's language is {spoken}"
        found.append(Finding(WARNING, part, f"{provider.label} {said}", f"{kind}_settings", "language"))
    yield from found or [Finding(READY, part, _as_configured(kind, provider, settings), f"{kind}_provider")]


def _settings(
    kind: str, name: str, provider: catalogue.Provider, settings: Mapping[str, Any]
) -> Iterator[Finding]:
    """Settings that nobody takes, that are not installed, or that "auto" leaves out at present."""
    known = {setting.name: setting for setting in provider.settings}
    for setting, value in settings.items():
        where = (f"{kind}_settings", setting)
        try:
            catalogue.validate(kind, name, {setting: value})
        except ValueError as error:
            yield Finding(ERROR, PARTS[kind], str(error).removeprefix(f"{kind}: "), *where)
            continue
        if setting not in known or not known[setting].accepts(value):
            said = f"{provider.label}, which is automatic now, does not take this {setting} and uses its own"
            yield Finding(WARNING, PARTS[kind], said, *where)
        elif command := known[setting].missing(value):
            yield Finding(ERROR, PARTS[kind], f"{value} is not installed: {command}", *where)


def _credentials(kind: str, provider: catalogue.Provider, language: str) -> Iterator[Finding]:
    """A missing key: the embedded provider stands in, if it knows the language."""
    if not provider.key or accounts.account_of(provider.name, provider.key).is_usable:
        return
    embedded = catalogue.find(kind, catalogue.LOCAL)
    if embedded.knows(language):
        only = f", {_languages(embedded)} only" if embedded.languages else ""
        said = f"{provider.label}: no key → the embedded one{only}"
        yield Finding(WARNING, PARTS[kind], said, f"{kind}_provider")
    else:
        said = f"{provider.label}: no key, and the embedded one knows {_languages(embedded)} only"
        yield Finding(ERROR, PARTS[kind], said, f"{kind}_provider")


def _does_not_know(name: str, provider: catalogue.Provider, language: str) -> str:
    said = f"{provider.label} does not know {name_of(language)}"
    if name == catalogue.AUTO and provider.name == catalogue.LOCAL:
        return f"{said}; automatic is the cloud once its keys are set"
    return said


def _languages(provider: catalogue.Provider) -> str:
    return " and ".join(name_of(language) for language in provider.languages)


def _as_configured(kind: str, provider: catalogue.Provider, settings: Mapping[str, Any]) -> str:
    """The provider, and which of its models or voices."""
    values = catalogue.defaults(kind, provider.name) | dict(settings)
    which = values.get("voice" if kind == "tts" else "model", "")
    return f"{provider.label}, {which}" if which else provider.label


# --- What it says, and limits that contradict each other --------------------------------------------------


def _prompt(configuration: Mapping[str, Any]) -> Iterator[Finding]:
    """A prompt that is longer than the model takes."""
    try:
        _fitting, cut = catalogue.fit_prompt(configuration["llm_provider"], configuration["system_prompt"])
    except ValueError:  # a provider that is gone, which has been said
        return
    if cut:
        yield Finding(ERROR, "Prompt", f"{cut[0].upper()}{cut[1:]}", "system_prompt")
    elif not configuration["system_prompt"].strip():
        yield Finding(ERROR, "Prompt", "The model is not told who it is", "system_prompt")


def _limits(configuration: Mapping[str, Any]) -> Iterator[Finding]:
    """A call that is over before what it has to say is said."""
    longest = configuration["max_duration_s"]
    greeting = len(configuration["greeting"]) / CHARACTERS_A_SECOND
    if greeting >= longest:
        said = f"The greeting takes about {greeting:.0f} s to say, and the call ends after {longest} s"
        yield Finding(ERROR, "Limits", said, "max_duration_s")
