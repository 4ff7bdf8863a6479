"""The system prompt of a call that goes on: the profile's with the client's, or another."""

from dataclasses import replace

from calls import events
from calls.pipeline.conversation import Conversation
from calls.profiles import templates
from calls.profiles.in_force import CallConfig


class Prompt:
    """The prompt in force.

    Args:
        config: of the call.
        client: the client's prompt, None if it sent none.
    """

    def __init__(self, config: CallConfig, client: str | None) -> None:
        self._config = config
        self._client = client

    @property
    def text(self) -> str:
        """The prompt in force."""
        return self._config.prompt_for(self._client)

    async def by_client(self, prompt: str, conversation: Conversation, publish: events.Sink) -> None:
        """Put the client's prompt in force from the next reply on, as far as the profile lets it."""
        before, self._client = self.text, prompt
        if self.text != before:
            await conversation.prompt(self.text)
            publish(events.PromptChanged(prompt))

    async def replaced(self, prompt: str, conversation: Conversation) -> None:
        """Put this prompt, a template, in force from the next reply on, in the place of all there was."""
        spoken = templates.render(prompt, self._config.values)
        self._config, self._client = replace(self._config, system_prompt=spoken), None
        await conversation.prompt(spoken)
