"""Whether a profile would work in a call as it is configured, part by part, and why it would not.

The catalogue is asked, and which keys are set; nothing is tried. `accounts.refresh` reads the keys that are
stored in the database, and has to be called before.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from calls.profiles import templates
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
    return [*found, *_prompt(configuration), *_texts(configuration), *_limits(configuration)]


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
    settings = configuration[f"{kind}_settings"]
    if not isinstance(settings, dict):
        yield Finding(ERROR, part, "the settings are no JSON object", f"{kind}_settings")
        return
    found = [*_settings(kind, name, provider, settings)]
    language = str(settings.get("language") or configuration["language"])
    if not _is_usable(provider) or not provider.knows(language):
        found.append(_stands_in(kind, name, provider, configuration, language))
    elif _base(language) != _base(configuration["language"]):
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


def _stands_in(
    kind: str, name: str, provider: catalogue.Provider, configuration: Mapping[str, Any], language: str
) -> Finding:
    """Say who answers instead: the fallback, else the embedded one, whichever has a key and the language."""
    embedded = catalogue.find(kind, catalogue.LOCAL)
    named = [each for each in catalogue.providers(kind) if each.name == configuration[f"{kind}_fallback"]]
    able = [each for each in (*named, embedded) if _is_usable(each) and each.knows(language)]
    is_keyless = not _is_usable(provider)
    field = f"{kind}_provider" if is_keyless else "language"
    why = f"{provider.label}: no key" if is_keyless else f"{provider.label} does not know {name_of(language)}"
    if able:
        is_embedded = able[0] == embedded
        label = "the embedded one" if is_embedded else able[0].label
        only = f", {_languages(embedded)} only" if is_embedded and embedded.languages else ""
        return Finding(WARNING, PARTS[kind], f"{why} → {label}{only}", field)
    if is_keyless:
        why += f", and the embedded one knows {_languages(embedded)} only"
    elif name == catalogue.AUTO and provider == embedded:
        why += "; automatic is the cloud once its keys are set"
    return Finding(ERROR, PARTS[kind], why, field)


def _base(language: str) -> str:
    """The language without its region."""
    return language.partition("-")[0]


def _is_usable(provider: catalogue.Provider) -> bool:
    """Whether it needs no key, or has one."""
    return not provider.key or accounts.account_of(provider.name, provider.key).is_usable


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


def _texts(configuration: Mapping[str, Any]) -> Iterator[Finding]:
    """Texts that cannot be read, or with names that are not known."""
    for field, wrong in templates.problems_of(configuration).items():
        yield from (Finding(ERROR, "Texts", said, field) for said in wrong)


def _limits(configuration: Mapping[str, Any]) -> Iterator[Finding]:
    """A call that is over before what it has to say is said."""
    longest = configuration["max_duration_s"]
    greeting = len(configuration["greeting"]) / CHARACTERS_A_SECOND
    if greeting >= longest:
        said = f"The greeting takes about {greeting:.0f} s to say, and the call ends after {longest} s"
        yield Finding(ERROR, "Limits", said, "max_duration_s")
