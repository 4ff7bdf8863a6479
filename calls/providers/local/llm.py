"""The embedded language model as a Pipecat service, a client of OpenAI's API on a server in this process."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from openai import AsyncOpenAI, BadRequestError, DefaultAsyncHttpxClient, OpenAIError, Timeout
from pipecat.frames.frames import StartFrame
from pipecat.metrics.metrics import LLMTokenUsage
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.services.openai.base_llm import OpenAILLMSettings
from pipecat.services.settings import LLMSettings
from pipecat.utils.http import AsyncHTTPClient, connection_limits
from pipecat.utils.types import assert_given

from calls.providers.clients import MOST_CONNECTIONS, SharedClient
from calls.providers.frames import PromptCutFrame
from calls.providers.local import llm_server
from calls.providers.local.llm_server import ModelServer
from calls.providers.replies import Chunks, FollowedReplies

# Replies wait for a slot when more are written than there are slots.
TIMEOUT = Timeout(20, connect=2)
MAX_SHORTENINGS = 12
NEARLY_FULL = 0.75

_server = ModelServer()


async def warm() -> None:
    """Start the server and ask it for one token."""
    await asyncio.to_thread(_server.start)
    await _on_loopback(_server.url).chat.completions.create(
        model="embedded", messages=[{"role": "user", "content": "Hello"}], max_tokens=1
    )


def is_ready() -> bool:
    """Whether the server listens."""
    return _server.running


async def close() -> None:
    """Stop the server; replies under way break off. Safe to call again."""
    await _http.close()  # the server ends only once its connections have
    await asyncio.to_thread(_server.stop)


def build(values: Mapping[str, Any], language: str) -> "LocalLLMService":
    """Make the service. `values`: model, temperature, top_p, max_tokens, maybe system_instruction."""
    return LocalLLMService(settings=OpenAILLMSettings(**values))


def _unverifying() -> AsyncHTTPClient:
    """A client for the server in this process: no proxy in between, no certificates to load."""
    # The server closes idle connections at times of its own: a kept one may fail the next request.
    limits = connection_limits(
        max_keepalive_connections=0, max_connections=MOST_CONNECTIONS, keepalive_expiry=None
    )
    return DefaultAsyncHttpxClient(trust_env=False, verify=False, limits=limits)


_http = SharedClient(_unverifying)


def _on_loopback(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(
        api_key=_server.key, base_url=url, timeout=TIMEOUT, max_retries=0, http_client=_http.get()
    )


class LocalLLMService(FollowedReplies):
    """Writes replies with the embedded model; starts its server if that is not running yet."""

    supports_developer_role = False
    supports_response_schema = False

    def __init__(self, *, settings: OpenAILLMSettings, **kwargs: Any) -> None:
        super().__init__(settings=settings, api_key=_server.key, **kwargs)
        self._history = _History()
        self._context: LLMContext | None = None
        self._reading_ahead: asyncio.Task[None] | None = None

    def create_client(self, *args: Any, **kwargs: Any) -> AsyncOpenAI:
        """The client of the server in this process."""
        return _on_loopback("http://127.0.0.1")  # the port is known once the server runs

    async def setup(self, setup: FrameProcessorSetup) -> None:  # type: ignore[override]  # as Pipecat's does
        """Start the server if need be. Raises what that raises."""
        await super().setup(setup)
        await asyncio.to_thread(_server.start)
        self._client.base_url = _server.url

    async def start(self, frame: StartFrame) -> None:
        """Start, and have the model read the system prompt before the first reply."""
        await super().start(frame)
        await self._read_ahead(LLMContext())

    async def cleanup(self) -> None:
        """Stop reading ahead."""
        await super().cleanup()
        await self._stop_reading_ahead()

    async def get_chat_completions(self, context: LLMContext) -> Chunks:
        """Ask for a reply. The oldest messages of a conversation too long for the model are left out."""
        if self._reading_ahead and not self._reading_ahead.done():
            # It reads what this request begins with: asking at once would have it read twice.
            await asyncio.wait({self._reading_ahead}, timeout=TIMEOUT.read)
        self._context = context
        params = await self._request(context)
        messages = params["messages"]
        for _ in range(MAX_SHORTENINGS):
            try:
                stream = await self._client.chat.completions.create(
                    **params | {"messages": self._history.fit(messages)}
                )
                return self.followed(cast(Chunks, stream))
            except BadRequestError as error:
                if error.type != "exceed_context_size_error":
                    raise
                await self._shorten(messages)
        raise ValueError("the conversation can't be made short enough for the embedded model")

    async def _request(self, context: LLMContext) -> dict[str, Any]:
        from_context = await self.get_llm_adapter().get_llm_invocation_params(
            context, system_instruction=self._instruction(), convert_developer_to_user=True
        )
        return self.build_chat_completion_params(from_context)

    def _instruction(self) -> str | None:
        return assert_given(cast(OpenAILLMSettings, self._settings).system_instruction)

    async def _update_settings(self, delta: LLMSettings) -> dict[str, Any]:  # type: ignore[override]  # as Pipecat's
        changed = await super()._update_settings(delta)
        if "system_instruction" in changed:
            await self._read_ahead(LLMContext())
        return changed

    async def start_llm_usage_metrics(self, tokens: LLMTokenUsage) -> None:
        """Report a reply's tokens; shorten a conversation that soon fills the model's context.

        The model then has to read the shortened conversation, which takes seconds: this is done while the
        reply is spoken.
        """
        await super().start_llm_usage_metrics(tokens)
        if self._context and tokens.total_tokens > NEARLY_FULL * llm_server.CONTEXT_TOKENS:
            await self._shorten((await self._request(self._context))["messages"])
            await self._read_ahead(self._context)

    async def _shorten(self, messages: list[Any]) -> None:
        """Leave out more of these messages; push a PromptCutFrame the first time that texts are cut, too."""
        cut_before = self._history.cuts_texts
        self._history.shorten(messages)
        if self._history.cuts_texts and not cut_before:
            limit = f"{llm_server.CONTEXT_TOKENS} tokens at once"
            await self.push_frame(
                PromptCutFrame(f"the model takes {limit}: the ends of prompt and texts are left out")
            )

    async def _read_ahead(self, context: LLMContext) -> None:
        """Have the model read the system prompt and the conversation before a reply is needed.

        It reads 140 tokens a second on one core, and each of them only once.
        """
        await self._stop_reading_ahead()
        request = await self._request(context)
        if request["messages"]:
            request |= {"messages": self._history.fit(request["messages"]), "stream": False, "max_tokens": 1}
            del request["stream_options"]
            self._reading_ahead = self.create_task(self._read(request), name="read_ahead")

    async def _stop_reading_ahead(self) -> None:
        if self._reading_ahead:
            await self.cancel_task(self._reading_ahead)
            self._reading_ahead = None

    async def _read(self, request: dict[str, Any]) -> None:
        # The request for the reply will get the same error, and report it.
        with suppress(OpenAIError):
            await self._client.chat.completions.create(**request)


class _History:
    """The part of a conversation that is sent to the model.

    When it is too long, half of it is left out at once: the prompt then begins the same for many turns, and
    the model need not read that part again.
    """

    def __init__(self) -> None:
        self._left_out = 0
        self._max_characters = 0

    @property
    def cuts_texts(self) -> bool:
        """Whether leaving out the past is not enough."""
        return self._max_characters > 0

    def fit(self, messages: list[Any]) -> list[Any]:
        """The messages to send: the system's, and the latest of the others."""
        head, tail = _split(messages)
        if self._left_out >= len(tail):
            self._left_out = 0  # this is another conversation
        return [self._cut(message) for message in head + tail[self._left_out :]]

    def shorten(self, messages: list[Any]) -> None:
        """Leave out more of these messages next time; when only the last are left, cut their texts."""
        _, tail = _split(messages)
        seen = len(tail) - self._left_out
        if seen > 1:
            self._left_out += (seen + 1) // 2
        else:
            longest = max(len(str(m.get("content", ""))) for m in messages)
            self._max_characters = (self._max_characters or longest) // 2

    def _cut(self, message: Any) -> Any:
        text = message.get("content")
        if not self._max_characters or not isinstance(text, str):
            return message
        return {**message, "content": text[: self._max_characters]}


def _split(messages: list[Any]) -> tuple[list[Any], list[Any]]:
    """Split into the system's messages at the beginning and the rest."""
    count = next((i for i, m in enumerate(messages) if m.get("role") != "system"), len(messages))
    return messages[:count], messages[count:]
