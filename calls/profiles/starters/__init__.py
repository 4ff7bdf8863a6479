"""What a new profile can start from: agents of several kinds, each written in several languages."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

LANGUAGES = {"en": "English", "de": "Deutsch", "es": "Español", "fr": "Français"}
KINDS = ("receptionist", "restaurant", "out_of_hours", "support", "concierge")


@dataclass(frozen=True, slots=True)
class Starter:
    """One kind of agent in one language: a name, and what it says."""

    kind: str
    about: str
    language: str
    name: str
    system_prompt: str
    greeting: str
    apology: str
    farewell: str
    transfer_announcement: str

    def fields(self) -> dict[str, str]:
        """What it sets of a profile, by field."""
        names = ("name", "language", "system_prompt", "greeting", "apology", "farewell")
        return {name: getattr(self, name) for name in (*names, "transfer_announcement")}


@cache
def starters() -> dict[tuple[str, str], Starter]:
    """All there are, by kind and language, in the order they are offered."""
    found = {}
    for kind in KINDS:
        told = tomllib.loads((Path(__file__).parent / f"{kind}.toml").read_text("utf-8"))
        for language in LANGUAGES:
            texts = {name: text.strip() for name, text in told[language].items()}
            found[kind, language] = Starter(kind, told["about"], language, **texts)
    return found
