"""What the faults are made on: real PostgreSQL and Redis, providers that can fail, and the real server."""

import asyncio
import json
import sqlite3
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks.faults.callers import Crowd
from benchmarks.figures import GREETING, REPLY
from tests.cloud import cartesia, openai
from tests.e2e.server import AgentServer
from tests.services import PrivatePostgres, PrivateRedis, private_cluster, private_redis

PASSWORD = "correct horse battery"  # noqa: S105  of a server that lives for a minute
PROFILE = {
    "slug": "default",
    "is_default": True,
    "greeting": GREETING,
    "apology": "Sorry, something went wrong.",
    "system_prompt": "You are a friendly receptionist.",
}
CALLS_SQL = "SELECT id, status, end_reason FROM calls_callsession"
TURNS_SQL = 'SELECT session_id, speaker, text FROM calls_turn ORDER BY session_id, "index"'


@dataclass
class Stored:
    """What the database holds of a call: how it ended, and each side's words in order."""

    status: str
    end_reason: str
    words: dict[str, list[str]] = field(default_factory=dict)


class Provider:
    """A provider's local server that can be switched off and on again at its address."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.url = ""
        self._running = AsyncExitStack()

    async def open(self) -> None:
        """Serve."""
        self.url = await self._running.enter_async_context(self.server.running())

    async def refuse(self) -> None:
        """Close every connection, and take none until it is opened again."""
        await self._running.aclose()


class Stand:
    """The services, the server and the callers that a fault is made among.

    `server` and `crowd` are those of the present fault.
    """

    def __init__(self, postgres: PrivatePostgres, redis: PrivateRedis, folder: Path, checkout: Path) -> None:
        self.postgres, self.redis = postgres, redis
        self.folder, self.checkout = folder, checkout
        texts = deque(f"Please find my order number {n}." for n in range(100_000))
        stt = cartesia.SpeechToText()
        stt.texts = texts
        self.providers = {
            "stt": Provider(stt),
            "llm": Provider(openai.ChatCompletions(REPLY)),
            "tts": Provider(cartesia.TextToSpeech()),
        }
        self.server: AgentServer
        self.crowd: Crowd
        self.notes: list[str] = []  # what a fault has to say of itself
        self._number = 0

    def environment(self) -> dict[str, str]:
        """The environment of a server that uses all of this."""
        return {
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "CARTESIA_API_KEY": cartesia.KEY,
            "OPENAI_API_KEY": openai.KEY,
            "CARTESIA_STT_URL": self.providers["stt"].url,
            "CARTESIA_TTS_URL": self.providers["tts"].url,
            "OPENAI_BASE_URL": self.providers["llm"].url,
            "ADMIN_PASSWORD": PASSWORD,
            "DRAIN_SECONDS": "600",  # as it is without a setting: the suite's servers do not wait for calls
        }

    @asynccontextmanager
    async def serving(self, own: Mapping[str, str]) -> AsyncIterator[None]:
        """A server with `own` added to its environment; its database is prepared if it is empty."""
        self._number += 1
        environment = {**self.environment(), **own}
        folder = Path(environment.pop("DATA_DIR", "") or self.folder / f"server-{self._number}")
        folder.mkdir(exist_ok=True)  # noqa: ASYNC240  a folder on this machine
        self.server = AgentServer(folder, checkout=self.checkout, **environment)
        await asyncio.to_thread(self._prepare)
        await asyncio.to_thread(self.server.start)
        try:
            yield
        finally:
            await asyncio.to_thread(self.server.stop)

    def _prepare(self) -> None:
        self.server.python("manage.py", "migrate", "--verbosity", "0")
        if not self.query("SELECT id FROM calls_promptprofile"):
            self.server.python("-m", "tests.e2e.make_profiles", json.dumps([PROFILE]))

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of the server's database, read past the server. Raises what the database raises."""
        url = self.server.environment["DATABASE_URL"]
        if url == self.postgres.url:
            with psycopg.connect(url, connect_timeout=2) as connection:
                return connection.execute(sql.encode()).fetchall()
        file = f"file:{self.server.folder / 'voiceagent.sqlite3'}?mode=ro"
        with closing(sqlite3.connect(file, uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def stored(self) -> dict[str, Stored]:
        """Every call the database holds, by its id. Raises what the database raises."""
        calls = {str(UUID(str(id))): Stored(status, reason) for id, status, reason in self.query(CALLS_SQL)}
        for id, speaker, text in self.query(TURNS_SQL):
            calls[str(UUID(str(id)))].words.setdefault(speaker, []).extend(text.split())
        return calls


@asynccontextmanager
async def stand(checkout: Path) -> AsyncIterator[Stand]:
    """Services and providers for the faults; the server is that of `checkout`."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="voiceagent-faults-")))
        postgres = stack.enter_context(private_cluster())
        redis = stack.enter_context(private_redis())
        made = Stand(postgres, redis, folder, checkout)
        for provider in made.providers.values():
            await provider.open()
            stack.push_async_callback(provider.refuse)
        yield made
