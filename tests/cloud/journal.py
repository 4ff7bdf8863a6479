"""A list that others can wait on."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Journal(list[T]):
    """What happened, in order; grows by `append` only, within one event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._grown = asyncio.Event()

    def append(self, entry: T) -> None:
        """Add `entry` and wake those who wait."""
        super().append(entry)
        self._grown.set()

    async def find(self, wanted: Callable[[T], bool], *, timeout: float = 30) -> T:
        """The first entry that is `wanted`, waited for if need be; TimeoutError after `timeout` seconds."""
        async with asyncio.timeout(timeout):
            while True:
                for entry in self:
                    if wanted(entry):
                        return entry
                self._grown.clear()
                await self._grown.wait()
