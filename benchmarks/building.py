"""What making a call's services takes of the event loop, by provider: Pipecat's own way, and ours."""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

TIMES = 20


def _median_ms(make: Callable[[], Any]) -> float:
    """The median time of the processor that `make` takes, in ms, once what is done once has been done."""
    make()
    taken = []
    for _ in range(TIMES):
        began = time.thread_time()
        make()
        taken.append((time.thread_time() - began) * 1000)
    return round(statistics.median(taken), 2)


def _pipecats_own() -> Iterator[tuple[str, Callable[[], Any]]]:
    """The services as Pipecat makes them, with clients of their own, and what a handshake over TLS reads."""
    import ssl

    from pipecat.services.cartesia.stt import CartesiaSTTService
    from pipecat.services.cartesia.tts import CartesiaTTSService
    from pipecat.services.openai.llm import OpenAILLMService

    yield "stt/cartesia", lambda: CartesiaSTTService(api_key="none")
    yield "llm/openai", lambda: OpenAILLMService(api_key="none")
    yield "tts/cartesia", lambda: CartesiaTTSService(api_key="none")
    yield "each handshake", ssl.create_default_context


async def measure() -> dict[str, dict[str, float]]:
    """Milliseconds of the processor by provider: "own" with clients of its own, "shared" as calls have it."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voiceagent.settings")
    os.environ |= {"OPENAI_API_KEY": "none", "CARTESIA_API_KEY": "none"}
    import django

    django.setup()
    from calls.providers import catalogue, clients

    figures: dict[str, dict[str, float]] = {}
    for provider in catalogue.PROVIDERS:
        kind, name = provider.kind, provider.name

        def make(kind: str = kind, name: str = name) -> Any:
            return catalogue.create(kind, name, {}, language="en")

        figures[f"{kind}/{name}"] = {"shared": _median_ms(make)}
    figures["each handshake"] = {"shared": _median_ms(clients.tls)}
    for what, make_own in _pipecats_own():
        figures[what]["own"] = _median_ms(make_own)
    await catalogue.close()
    return figures
