"""Each provider, failing in each way while callers speak."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.faults.fault import Fault, Happening, add
from benchmarks.faults.stand import Provider, Stand

NAMES = {"stt": "speech-to-text", "llm": "language model", "tts": "text-to-speech"}
SLOW_S = 3.0
# The pieces of an answer before it breaks off: an interim transcript, four words, 0.5 s of speech.
PIECES = {"stt": 1, "llm": 4, "tts": 5}
LASTS_S = 12.0

Break = Callable[[Any, str], None]


def _status(code: int) -> Break:
    def fail(server: Any, part: str) -> None:
        server.faults.status(code)
        if part != "llm":  # the others are asked over connections, which are open
            server.drop_all()

    return fail


WAYS: dict[str, Break] = {
    "silent": lambda server, _part: server.faults.silent(),
    f"slow by {SLOW_S:g} s": lambda server, _part: server.faults.slow(SLOW_S),
    "dropped in mid-sentence": lambda server, part: server.faults.drop_after(PIECES[part]),
    "401": _status(401),
    "429": _status(429),
    "500": _status(500),
}


def _failing(part: str, fail: Break) -> Happening:
    @asynccontextmanager
    async def happen(stand: Stand) -> AsyncIterator[None]:
        server = stand.providers[part].server
        fail(server, part)
        yield
        server.faults.recover()

    return happen


def _refused(part: str) -> Happening:
    @asynccontextmanager
    async def happen(stand: Stand) -> AsyncIterator[None]:
        provider: Provider = stand.providers[part]
        await provider.refuse()
        yield
        await provider.open()

    return happen


for _part, _title in NAMES.items():
    add(Fault(f"{_part}-refused", f"{_title}: refused", _refused(_part), LASTS_S, prepare=None))
    for _way, _break in WAYS.items():
        _name = f"{_part}-{_way.split()[0]}"
        add(Fault(_name, f"{_title}: {_way}", _failing(_part, _break), LASTS_S, prepare=None))
