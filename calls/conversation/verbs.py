"""What may be asked of a call that runs, whoever asks: the longest duration, a command, a key, an answer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from calls import events
from calls.conversation.client import Client
from calls.conversation.control import Refused, carried_out, name_of
from calls.conversation.prompting import Prompt
from calls.conversation.watchdog import Watchdog
from calls.events import LLM
from calls.models import EndReason
from calls.pipeline.conversation import Conversation
from calls.profiles import templates
from calls.profiles.in_force import CallConfig
from calls.tasks import Tasks

SPOKEN_WITHIN_S = 20.0  # a farewell, or what is said before a transfer
HOLD_S = 120.0
MOST_CHARS = 1000  # of a text to say
MOST_PROMPT_CHARS = 20_000
# What the model is told, as part of the conversation.
BACK = "The transfer to {name} failed: {why}. The caller is back with you. Tell him, and ask how to go on."


class Verbs:
    """Ends a call, transfers it, has the agent say something or wait.

    Args:
        config: of the call.
        conversation: its pipeline.
        publish: takes what happens.
        client: gives the present way to the client.
        prompt, watchdog, tasks: of the call.
    """

    def __init__(
        self,
        config: CallConfig,
        conversation: Conversation,
        publish: events.Sink,
        client: Callable[[], Client],
        *,
        prompt: Prompt,
        watchdog: Watchdog,
        tasks: Tasks,
    ) -> None:
        self._config = config
        self._conversation = conversation
        self._publish = publish
        self._client = client
        self._prompt = prompt
        self._watchdog = watchdog
        self._tasks = tasks
        self.is_ending = False  # the pipeline stops, as it should, when the farewell has been said
        self._leaving = ""  # what keeps the agent from doing anything else, as part of a sentence
        self._destination = ""  # of the transfer under way
        self._holding: asyncio.TimerHandle | None = None
        self._is_over = False

    @property
    def answers(self) -> bool:
        """Whether the caller gets answers: he was not told to hold on, nor that this is the end."""
        return not self._leaving and self._holding is None

    async def say(self, text: str) -> None:
        """Have the agent say this, a template, after what it is saying; it answers nothing the caller said.

        Raises:
            Refused: no text or too much of it, or it uses a name that is not known; the agent takes leave.
        """
        self._refuse_while_leaving()
        _refuse_unless_template("text", text, MOST_CHARS)
        self._conversation.observer.forget_wait()
        await self._conversation.say(templates.render(text, self._config.values))

    async def client_prompt(self, prompt: str | None) -> None:
        """Put the client's system prompt in force, from the next reply on. None changes nothing."""
        if prompt is not None:
            await self._prompt.by_client(prompt, self._conversation, self._publish)

    async def prompt(self, prompt: str) -> None:
        """Put another system prompt in force, whatever the client sent, from the next reply on.

        It is a template, as the profile's is.

        Raises:
            Refused: no text or too much of it, or it uses a name that is not known.
        """
        _refuse_unless_template("prompt", prompt, MOST_PROMPT_CHARS)
        await self._prompt.replaced(prompt, self._conversation)

    async def mute(self) -> None:
        """Cut the agent short, and have it answer nothing until `go_on` or for two minutes.

        Raises:
            Refused: the agent takes leave.
        """
        self._refuse_while_leaving()
        self._wait_for_go_on()
        await self._conversation.give_up_reply()

    async def hold_on(self, text: str) -> None:
        """Say this, then leave unanswered what the caller says, until `go_on` or for two minutes.

        Raises:
            Refused: the text cannot be said, or the agent takes leave.
        """
        await self.say(text)
        self._wait_for_go_on()

    async def go_on(self) -> None:
        """Answer the caller again, first of all what he has said meanwhile.

        Raises:
            Refused: the agent answers already, or takes leave.
        """
        self._refuse_while_leaving()
        if self._holding is None:
            raise Refused("the agent answers already")
        await self._answer_again()

    async def end(self, reason: EndReason, *, farewell: bool = True, why: str = "") -> str:
        """Say the farewell to its end, end the call on the telephone, and leave the socket.

        Without `farewell` only what is being said is; `why` the agent takes leave is stored with the call.
        Returns why the telephone could not be hung up, "" if it was.

        Raises:
            Refused: the agent takes leave already, or the caller hung up first.
        """
        self._take_leave("is taking leave of the caller")
        self.is_ending = True
        with suppress(TimeoutError):
            async with asyncio.timeout(SPOKEN_WITHIN_S):
                if farewell and self._config.farewell:
                    await self._conversation.say(self._config.farewell, interruptible=False)
                await self._conversation.finish()
        if self._is_over:
            raise Refused("the call has ended meanwhile")
        refused = await carried_out(self._client().control.end())
        self._publish(events.HungUp(refused, why))
        self._client().leave(reason)
        return refused

    async def transfer(self, destination: str) -> None:
        """Announce the transfer, hand the call on when that has been spoken, and leave the socket.

        Of a transfer that fails the model is told, and the call goes on with it: at once, or when it is back.

        Raises:
            Refused: the destination is unknown, the client cannot, or the agent takes leave already.
        """
        name = name_of(self._client().control, destination)
        self._take_leave(f"is transferring the call to {name}")
        self._destination = destination
        self._publish(events.Transferring(destination))
        with suppress(TimeoutError):
            async with asyncio.timeout(SPOKEN_WITHIN_S):
                if announcement := self._config.announcement(name):
                    await self._conversation.say(announcement, interruptible=False)
                await self._conversation.spoken()
        if self._is_over or self._conversation.is_over:
            refused = "the call has ended"
        else:
            refused = await carried_out(self._client().control.transfer(destination))
        if refused:
            await self.come_back(refused)
            raise Refused(refused)
        self._client().leave(EndReason.TRANSFERRED)

    async def come_back(self, why: str) -> None:
        """The call was not taken where it was transferred to: the agent tells the caller, and goes on."""
        destination, self._destination, self._leaving = self._destination, "", ""
        self._publish(events.TransferFailed(destination, why))
        name = self._client().control.destinations().get(destination, destination)
        await self._answer_again(BACK.format(name=name, why=why))

    def stop(self, reason: EndReason) -> None:
        """The call is over; if that is because of a transfer, it has succeeded."""
        self._is_over = True
        self._stop_holding()
        if reason is EndReason.TRANSFERRED:
            self._publish(events.Transferred(self._destination))

    def _wait_for_go_on(self) -> None:
        self._stop_holding()
        self._watchdog.stop()
        self._conversation.hold()
        loop = asyncio.get_running_loop()
        self._holding = loop.call_later(HOLD_S, lambda: self._tasks.spawn(self.go_on()))

    def _refuse_while_leaving(self) -> None:
        if self._leaving:
            raise Refused(f"the agent {self._leaving}")

    def _take_leave(self, doing: str) -> None:
        self._refuse_while_leaving()
        self._leaving = doing
        self._stop_holding()
        self._watchdog.stop()
        self._conversation.hold()

    async def _answer_again(self, note: str = "") -> None:
        self._stop_holding()
        if not self._conversation.is_over and await self._conversation.go_on(note):
            self._watchdog.expect(LLM)

    def _stop_holding(self) -> None:
        if self._holding is not None:
            self._holding.cancel()
            self._holding = None


def _refuse_unless_template(what: str, text: str, most: int) -> None:
    """Raise Refused for a template that is empty, longer than `most` characters, or has unknown names."""
    if not 0 < len(text.strip()) <= most:
        raise Refused(f"expected a {what} of 1 to {most} characters, got one of {len(text)}")
    if wrong := templates.problems(text):
        raise Refused(" ".join(wrong).removesuffix("."))
