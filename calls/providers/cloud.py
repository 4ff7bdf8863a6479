"""The cloud providers' services: Cartesia for speech-to-text and text-to-speech, OpenAI for the replies.

Each factory takes `values`, which are all settings of its catalogue entry and the account, and the language,
such as "en".
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from django.conf import settings as django_settings
from openai import AsyncOpenAI, Timeout
from pipecat.services.cartesia.stt import CartesiaSTTService
from pipecat.services.cartesia.tts import CartesiaTTSService, GenerationConfig
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.websocket_service import WebsocketService

from calls.providers import clients
from calls.providers.accounts import Account
from calls.providers.frames import SpeechTranscribedFrame
from calls.providers.replies import FollowedReplies

# The client library's default is ten minutes; a caller hangs up long before.
OPENAI_TIMEOUT = Timeout(10, connect=5)
OPENAI_RETRIES = 1
NO_KEY = "none"  # the client library refuses an empty one; servers that need none do not look at it
# The pipeline starts when its services have connected: an unanswered handshake must not delay the greeting.
CONNECT_S = 3.0


async def warm() -> None:
    """Read the certificate authorities, and import what the client library imports for its first reply."""
    await asyncio.to_thread(clients.tls)
    _ = _client(Account("none"), None).chat.completions


async def close() -> None:
    """Close the connections to OpenAI; replies under way break off. Safe to call again."""
    await clients.cloud.close()


def _client(account: Account, base_url: str | None) -> AsyncOpenAI:
    """An account's client, on the connections that all calls share: made in 0.1 ms."""
    return AsyncOpenAI(
        api_key=account.key,
        base_url=base_url,
        timeout=OPENAI_TIMEOUT,
        max_retries=OPENAI_RETRIES,
        http_client=clients.cloud.get(),
    )


class TelephoneOpenAILLMService(FollowedReplies):
    """OpenAI's chat completions with timeouts that suit a telephone call."""

    def create_client(self, *_: Any, **kwargs: Any) -> AsyncOpenAI:
        """Make the client, which times out after 10 s without data from the server and retries once."""
        return _client(Account(kwargs["api_key"]), kwargs["base_url"])


class _BoundedHandshake(WebsocketService):
    """A service that connects within CONNECT_S or not at all, and reads no authorities to do so."""

    async def _websocket_connect(self, uri: str, **kwargs: Any) -> Any:
        tls = {"ssl": clients.tls()} if uri.startswith("wss:") else {}
        return await super()._websocket_connect(uri, open_timeout=CONNECT_S, **tls, **kwargs)


class TelephoneCartesiaSTTService(_BoundedHandshake, CartesiaSTTService):
    """Cartesia's speech-to-text with a bounded handshake; pushes SpeechTranscribedFrames."""

    async def _process_response(self, data: dict[str, Any]) -> None:
        await super()._process_response(data)
        if data.get("type") == "flush_done":  # the answer to `finalize`, after all words
            await self.push_frame(SpeechTranscribedFrame())


class TelephoneCartesiaTTSService(_BoundedHandshake, CartesiaTTSService):
    """Cartesia's voice with a bounded handshake."""


def cartesia_stt(values: Mapping[str, Any], language: str) -> CartesiaSTTService:
    """Cartesia's streaming speech-to-text. `values`: account, model."""
    account: Account = values["account"]
    return TelephoneCartesiaSTTService(
        api_key=account.key,
        base_url=account.base_url or django_settings.CARTESIA_STT_URL,
        settings=CartesiaSTTService.Settings(model=values["model"], language=language),
    )


def openai_llm(values: Mapping[str, Any], language: str) -> OpenAILLMService:
    """OpenAI's chat completions. `values`: account, model, max_tokens, maybe temperature, top_p, prompt."""
    account: Account = values["account"]
    optional = {n: values[n] for n in ("temperature", "top_p", "system_instruction") if n in values}
    return TelephoneOpenAILLMService(
        api_key=account.key or NO_KEY,
        base_url=account.base_url or django_settings.OPENAI_BASE_URL,
        # Newer models refuse the older name, max_tokens.
        settings=OpenAILLMService.Settings(
            model=values["model"], max_completion_tokens=values["max_tokens"], **optional
        ),
    )


def cartesia_tts(values: Mapping[str, Any], language: str) -> CartesiaTTSService:
    """Cartesia's streaming text-to-speech with word times. `values`: account, voice, speed."""
    account: Account = values["account"]
    default = django_settings.CARTESIA_TTS_URL
    return TelephoneCartesiaTTSService(
        api_key=account.key,
        url=f"{account.base_url.rstrip('/')}/tts/websocket" if account.base_url else default,
        settings=CartesiaTTSService.Settings(
            voice=values["voice"],
            language=language,
            generation_config=GenerationConfig(speed=values["speed"]),
        ),
    )
