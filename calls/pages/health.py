"""Whether the server is up, and whether it can take calls."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from asgiref.sync import sync_to_async
from channels.layers import get_channel_layer
from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from calls.database import file_of_database
from calls.models import PromptProfile
from calls.process import State, this_process
from calls.providers import catalogue
from calls.recorder import writer

logger = logging.getLogger(__name__)

T = TypeVar("T")

CHECK_SECONDS = 2.0
OK = "ok"
# Without Redis nobody watches calls; what a recorder cannot write yet waits in memory.
CALLS_GO_ON_WITHOUT = {"channel_layer", "recorder"}

# One thread each: a check that hangs neither holds up the others nor gathers threads probe after probe.
_database_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz-database")
_models_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="readyz-models")


@never_cache
@require_safe
async def healthz(request: HttpRequest) -> JsonResponse:
    """Answer that the process is up; touches nothing else."""
    return JsonResponse({"status": OK})


@never_cache
@require_safe
async def readyz(request: HttpRequest) -> JsonResponse:
    """Answer whether calls can be taken: 200, or 503 if a check fails that calls need.

    Each check says "ok" or, without details an outsider should not see, what is wrong. The status is
    "degraded", with 200, if only what calls go on without has failed.
    """
    checks = {
        "database": _database(),
        "channel_layer": _channel_layer(),
        "models": _models(),
        "profiles": _profiles(),
    }
    results = await asyncio.gather(*(_bounded(name, check) for name, check in checks.items()))
    answers = {"process": _process(), "recorder": writer.status(), **dict(zip(checks, results, strict=True))}
    failed = {name for name, result in answers.items() if result != OK}
    status = OK if not failed else "degraded" if failed <= CALLS_GO_ON_WITHOUT else "unavailable"
    body = {"status": status, "checks": answers, "calls": _calls()}
    return JsonResponse(body, status=503 if status == "unavailable" else 200)


async def _bounded(name: str, check: Awaitable[str]) -> str:
    """Return what `check` says; its failure or lateness becomes a word for it and a line in the log."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check
    except TimeoutError:
        logger.error("readyz: %s did not answer within %g s", name, CHECK_SECONDS)
        return f"no answer within {CHECK_SECONDS:g} s"
    except Error as e:  # of the database, which says enough
        logger.error("readyz: %s failed: %s", name, " ".join(str(e).split()))
        return "failed"
    except Exception:
        logger.exception("readyz: %s failed", name)
        return "failed"


def _process() -> str:
    """Whether this process takes calls, or what it does instead."""
    if this_process.is_accepting:
        return OK
    left = f", calls left: {this_process.load.calls}" if this_process.state is State.DRAINING else ""
    return f"{this_process.state.value}{left}"


def _calls() -> dict[str, int | None]:
    """How many calls run, how many may at once, and how many found no room since the process started.

    A process that is full is ready all the same: it serves pages, and refuses calls in milliseconds.
    """
    load = this_process.load
    return {"running": load.calls, "most": load.most, "refused": load.refused}


async def _database() -> str:
    """Ask the database for a row."""

    def select() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")

    await _ask_database(select)
    return OK


async def _profiles() -> str:
    """Ask whether a profile is there to answer calls: without one, every call is refused."""
    return OK if await _ask_database(PromptProfile.objects.usable().exists) else "none is published"


async def _ask_database(question: Callable[[], T]) -> T:
    """Return what the database says over a connection of its own."""

    def ask() -> T:
        try:
            file_of_database()
            return question()
        finally:
            connection.close()

    return await sync_to_async(ask, thread_sensitive=False, executor=_database_thread)()


async def _channel_layer() -> str:
    """Send a message through the channel layer and wait for it."""
    layer = get_channel_layer()
    if layer is None:
        return "not configured"
    channel = await layer.new_channel()
    await layer.send(channel, {"type": "health.check"})
    await layer.receive(channel)
    return OK


async def _models() -> str:
    """Ask whether speech-to-text, language model and text-to-speech are loaded."""
    ready = await sync_to_async(catalogue.ready, thread_sensitive=False, executor=_models_thread)()
    waiting = [kind for kind, is_ready in ready.items() if not is_ready]
    return f"not ready: {', '.join(waiting)}" if waiting else OK
