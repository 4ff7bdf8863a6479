"""Ends a call when the caller, or the agent's reply, ends with one of the profile's phrases."""

from collections.abc import Mapping
from contextlib import suppress
from itertools import accumulate

from calls import events
from calls.conversation.control import Refused
from calls.conversation.verbs import Verbs
from calls.events import AGENT, CALLER, LLM
from calls.models import EndReason
from calls.models.folding import apart, pieces
from calls.pipeline.conversation import Conversation
from calls.tasks import Tasks


class Goodbye:
    """Follows what is said in a call.

    Args:
        phrases: one a line.
        verbs, conversation, tasks: of the call.
    """

    def __init__(self, phrases: str, verbs: Verbs, conversation: Conversation, tasks: Tasks) -> None:
        self._phrases = letters_of(phrases)
        self._verbs = verbs
        self._tasks = tasks
        self._caller_said = ""
        self._agent_wrote = ""
        if self._phrases:  # the farewell answers it, not the model
            conversation.caller.is_last = lambda text: bool(self._at_end(text))

    def take(self, event: events.Event) -> None:
        """Something happened: end the call if it was the end of a turn that ends with a phrase."""
        if not self._phrases or not self._verbs.answers:
            return
        if phrase := self._heard(event):
            self._tasks.spawn(self._take_leave(f"the caller said “{phrase}”", farewell=True))
        elif phrase := self._spoken(event):
            self._tasks.spawn(self._take_leave(f"the agent said “{phrase}”", farewell=False))

    def _heard(self, event: events.Event) -> str:
        """The phrase with which the caller's turn has ended, if this event ends it; else ""."""
        match event:
            case events.Turn(speaker=speaker, text=text) if speaker == CALLER:
                self._caller_said = text
            case events.Awaiting(part, goes_on) if part == LLM and not goes_on:
                said, self._caller_said = self._caller_said, ""
                return self._at_end(said)
        return ""

    def _spoken(self, event: events.Event) -> str:
        """The phrase with which the agent's reply has ended, if this event tells its last word; else ""."""
        match event:
            case events.Wrote(text, is_complete) if is_complete:
                self._agent_wrote = text
            case events.Interrupted():
                self._agent_wrote = ""
            case events.Turn(speaker=speaker, text=text, end_ms=int(), interrupted=False) if speaker == AGENT:
                phrase = self._at_end(text)
                return phrase if phrase and phrase == self._at_end(self._agent_wrote) else ""
        return ""

    def _at_end(self, text: str) -> str:
        return at_end(text, self._phrases)

    async def _take_leave(self, why: str, *, farewell: bool) -> None:
        with suppress(Refused):
            await self._verbs.end(EndReason.HUNG_UP, farewell=farewell, why=why)


def letters_of(phrases: str) -> dict[str, str]:
    """Return the letters and digits of each phrase that has any; the phrases are one a line."""
    lines = [line.strip() for line in phrases.splitlines()]
    return {line: letters for line in lines if (letters := "".join(apart(pieces(line))))}


def at_end(text: str, phrases: Mapping[str, str]) -> str:
    """Return which of the phrases, as `letters_of` gives them, the text ends with; "" for none.

    Recognisers write "goodbye", "good-bye" and "good bye": the letters count, from the beginning of a word.
    """
    longest = max(map(len, phrases.values()), default=0)
    words = apart(pieces(text))[::-1][:longest]
    endings = set(accumulate(words, lambda after, word: word + after))
    return next((line for line, letters in phrases.items() if letters in endings), "")
