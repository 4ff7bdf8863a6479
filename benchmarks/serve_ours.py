"""This project's server with the fixed providers, and everything else as in production.

`python -m benchmarks.serve_ours SERVER PORT PROBE [SPEED]`: SERVER is daphne, uvicorn or granian. DATA_DIR is
a folder made for the run. With SPEED, audio comes, and the providers answer, so many times as fast.
"""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

PROFILE = "benchmark"


async def _heard() -> float:
    """The seconds of audio that are stored with ended calls."""
    from channels.db import database_sync_to_async
    from django.db.models import Sum

    from calls.models import CallSession

    def total() -> float:
        return CallSession.objects.aggregate(total=Sum("audio_in_s"))["total"] or 0.0

    return await database_sync_to_async(total, thread_sensitive=False)()


def _prepare() -> None:
    """Make a database with one profile, and add the providers to the catalogue."""
    import django

    django.setup()
    from django.core.management import call_command

    from benchmarks.figures import GREETING
    from calls.models import PromptProfile
    from calls.providers import catalogue

    for kind in catalogue.KINDS:
        catalogue.register(catalogue.Provider(kind, "fixed", "Fixed times", "benchmarks.providers", kind, ()))
    call_command("migrate", verbosity=0)
    PromptProfile.objects.create(
        name="Benchmark", slug=PROFILE, is_default=True, is_published=True, greeting=GREETING,
        system_prompt="You are a friendly receptionist.",
        stt_provider="fixed", llm_provider="fixed", tts_provider="fixed",
    ).publish()  # fmt: skip


def _hasten(speed: float) -> None:
    from benchmarks import providers
    from calls.gateway import limits

    providers.hasten(speed)
    limits.AUDIO_PER_S *= speed
    limits.MESSAGES_PER_S *= speed


async def _watch() -> None:
    """Receive every change, like a live page."""
    from channels.layers import get_channel_layer

    from calls.recorder.notify import LIVE_GROUP

    layer: Any = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(LIVE_GROUP, channel)
    while True:
        await layer.receive(channel)


def main() -> None:
    """Serve until a signal."""
    server, port, probe_path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voiceagent.settings")
    _prepare()
    if speed := float(sys.argv[4]) if len(sys.argv) > 4 else 0.0:
        _hasten(speed)
    from benchmarks.probe import Probe, measured
    from voiceagent.asgi import application

    probe = Probe(probe_path, _heard)
    watching: set[asyncio.Task[None]] = set()

    async def watched(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            watching.add(asyncio.create_task(_watch()))
        await application(scope, receive, send)

    app = measured(watched, probe)
    if server == "daphne":
        _daphne(app, port)
    elif server == "uvicorn":
        import uvicorn

        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
    elif server == "granian":
        from granian.constants import Interfaces
        from granian.server.embed import Server

        serving = Server(app, port=port, interface=Interfaces.ASGI, log_enabled=False)
        asyncio.run(serving.serve())
    else:
        sys.exit(f"expected daphne, uvicorn or granian, got {server}")


def _daphne(app: Any, port: int) -> None:
    """Serve with Daphne, which has no lifespan protocol: its startup is called here."""
    from calls.gateway.server.daphne import CallServer, endpoint, reactor

    async def never() -> Any:
        return await asyncio.get_running_loop().create_future()

    async def ignore(_message: dict[str, Any]) -> None:
        """Ignore the message."""

    tasks: list[asyncio.Task[None]] = []

    def begin() -> None:
        # The startup message never comes: CallServer does that part itself.
        tasks.append(asyncio.ensure_future(app({"type": "lifespan"}, never, ignore)))

    reactor.callWhenRunning(begin)
    where = [endpoint("127.0.0.1", port)]
    CallServer(app, endpoints=where, signal_handlers=False, websocket_timeout=-1, verbosity=1).run()


if __name__ == "__main__":
    main()
