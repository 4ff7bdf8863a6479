"""The ways a provider goes wrong, switched on and off while its server runs."""

import asyncio


class Dropped(Exception):
    """The connection is to be dropped now, without a goodbye."""


class Faults:
    """What a server does wrong at present. A fault lasts until `recover`, for connections open and new."""

    def __init__(self) -> None:
        self.recover()

    def recover(self) -> None:
        """Work properly again."""
        self.delay = 0.0
        self.refusal: int | None = None
        self.retry_after: float | None = None
        self.chunks: int | None = None
        self.mute = False

    def slow(self, seconds: float) -> None:
        """Let `seconds` pass before the first piece of each answer."""
        self.delay = seconds

    def status(self, code: int, *, retry_after: float | None = None) -> None:
        """Refuse requests and handshakes with HTTP status `code`; `retry_after` (s) goes into its header."""
        self.refusal = code
        self.retry_after = retry_after

    def drop_after(self, chunks: int) -> None:
        """Drop the connection in each answer once `chunks` pieces of it are sent."""
        self.chunks = chunks

    def silent(self) -> None:
        """Accept everything, answer nothing."""
        self.mute = True

    async def before_answer(self) -> None:
        """Wait as the faults say before the first piece of an answer: a mute server waits forever."""
        if self.mute:
            await asyncio.Event().wait()
        await asyncio.sleep(self.delay)

    def before_chunk(self, sent: int) -> None:
        """Raise Dropped if the answer breaks off after the `sent` pieces it has so far."""
        if self.chunks is not None and sent >= self.chunks:
            raise Dropped
