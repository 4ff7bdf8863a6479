"""Follows replies by OpenAI's protocol, and reports what Pipecat's service ignores: cuts, refusals, tools."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import cast

from openai import AsyncStream
from openai.types.chat import ChatCompletionChunk
from openai.types.chat.chat_completion_chunk import Choice
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.services.openai.llm import OpenAILLMService

from calls.providers.frames import ReplyCutFrame

logger = logging.getLogger(__name__)

Chunks = AsyncStream[ChatCompletionChunk]


@dataclass
class _Seen:
    """What a reply has contained so far."""

    wrote: bool = False
    finish: str | None = None
    tools: list[str] = field(default_factory=list)  # that the model asked for and that do not exist
    _refused: set[int] = field(default_factory=set)

    def take(self, choice: Choice, service: OpenAILLMService) -> None:
        """Note a piece of the reply, and remove calls of tools that do not exist from it."""
        self.finish = choice.finish_reason or self.finish
        delta = choice.delta
        if not delta:
            return
        self.wrote = self.wrote or bool(delta.content)
        for call in delta.tool_calls or ():
            name = call.function.name if call.function else None
            if name and not service.has_function(name):
                self._refused.add(call.index)
                self.tools.append(name)
        if delta.tool_calls:
            delta.tool_calls = [call for call in delta.tool_calls if call.index not in self._refused] or None


class FollowedReplies(OpenAILLMService):
    """A service that reports why a reply is empty or incomplete.

    Calls of tools that do not exist are dropped: Pipecat would answer the model that there is no such tool
    and ask again, ten times a second for the rest of the call if the model insists.
    """

    async def get_chat_completions(self, context: LLMContext) -> Chunks:
        """Request a reply and follow it. Raises what the request raises."""
        return self.followed(await super().get_chat_completions(context))

    def followed(self, stream: Chunks) -> Chunks:
        """Pass on the pieces of `stream`; push an error or a ReplyCutFrame at its end if there is reason."""
        return cast(Chunks, self._follow(stream))

    async def _follow(self, stream: Chunks) -> AsyncIterator[ChatCompletionChunk]:
        seen = _Seen()
        try:
            async for chunk in stream:
                for choice in chunk.choices or ():
                    seen.take(choice, self)
                yield chunk
        finally:
            await stream.close()
        await self._report(seen)

    async def _report(self, seen: _Seen) -> None:
        if seen.tools:
            message = f"the language model asked for a tool that nobody offered: {', '.join(seen.tools)}"
            if seen.wrote:
                logger.warning("%s: %s", self, message)
            else:
                await self.push_error(message)
        elif seen.finish == "content_filter" and not seen.wrote:
            await self.push_error("the provider withheld the language model's reply (content_filter)")
        elif seen.finish in ("length", "content_filter"):
            by = "max_tokens" if seen.finish == "length" else "the provider (content_filter)"
            await self.push_frame(ReplyCutFrame(f"the reply was cut by {by} and ends with its last sentence"))
