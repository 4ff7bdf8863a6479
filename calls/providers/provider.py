"""The types of the catalogue's entries: a provider and its settings."""

import math
import re
from dataclasses import dataclass

from django.conf import settings as django_settings

from calls.text import whole

SCHEMES = ("https", "http", "wss", "ws")
SPEED = "speed"  # the setting of a voice that has it
_TYPE_NAMES = {str: "text", int: "a whole number", float: "a number"}


@dataclass(frozen=True)
class Setting:
    """One setting of a provider: its name, type, permitted values and meaning.

    With `default` None the provider chooses; `default_from` names a Django setting to use instead.
    `low` and `high` bound a number, both included; `choices` or `pattern` (with `example`) restrict a text.
    """

    name: str
    type: type[str] | type[int] | type[float]
    help: str
    default: str | float | None = None
    default_from: str = ""
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = r"\S.*"
    example: str = ""
    installed_by: tuple[tuple[str, str], ...] = ()  # choices that have to be installed, each with the command

    def missing(self, value: object) -> str:
        """The command that installs this choice into DATA_DIR/models; "" if there is nothing to do."""
        command = dict(self.installed_by).get(str(value), "")
        return "" if (django_settings.DATA_DIR / "models" / str(value)).is_dir() else command

    @property
    def expected(self) -> str:
        """The permitted values, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.example:
            return f"text like {self.example}"
        bounds = f" from {self.low:g} to {self.high:g}" if self.low is not None else ""
        return _TYPE_NAMES[self.type] + bounds

    @property
    def initial(self) -> str | float | None:
        """The value used when a profile sets none."""
        return getattr(django_settings, self.default_from, None) if self.default_from else self.default

    def accepts(self, value: object) -> bool:
        """Whether `value` is of the right type and within what is permitted."""
        if self.type is str:
            if not isinstance(value, str) or whole(value) != value:
                return False
            return value in self.choices if self.choices else re.fullmatch(self.pattern, value) is not None
        number_types = (int, float) if self.type is float else (int,)
        if isinstance(value, bool) or not isinstance(value, number_types):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return self.low is None or self.high is None or self.low <= value <= self.high


@dataclass(frozen=True)
class Provider:
    """A provider of one kind: its settings, and the function that makes its service.

    `languages` are those it knows, by ISO 639; none are listed where it leaves that to its models.
    `key` names the Django setting with its key, for when no account in the database has one. The function of
    such a provider finds its `accounts.Account` as "account" among the values. `prompt_chars` is the longest
    system prompt that a language model can take and read before an answer is due; 0 is one nobody reaches.
    """

    kind: str
    name: str
    label: str
    module: str
    factory: str
    settings: tuple[Setting, ...]
    key: str = ""
    languages: tuple[str, ...] = ()
    prompt_chars: int = 0
    schemes: tuple[str, ...] = SCHEMES  # of an account's base URL

    def knows(self, language: str) -> bool:
        """Whether the provider knows a language, such as "en" or "pt-BR"; without a list it may know any."""
        return not self.languages or language.split("-", maxsplit=1)[0].lower() in self.languages

    def fit_prompt(self, prompt: str) -> str:
        """The beginning of the prompt that fits the model: whole sentences, or words of a very long one."""
        if not self.prompt_chars or len(prompt) <= self.prompt_chars:
            return prompt
        head = prompt[: self.prompt_chars + 1]
        ends = [match.start() + 1 for match in re.finditer(r"[.!?…。！？\n](?=\s|$)", head[:-1] + " ")]
        return head[: ends[-1] if ends else head.rfind(" ") if " " in head else self.prompt_chars].rstrip()

    def at_speed(self, speed: float) -> dict[str, float]:
        """The settings that make a voice this fast (1: its own pace), as far as it can; {} if it can't."""
        for setting in self.settings:
            if setting.name == SPEED and speed != 1.0:
                return {SPEED: min(max(speed, setting.low or speed), setting.high or speed)}
        return {}
