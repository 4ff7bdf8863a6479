"""Live events: what pages that watch calls are told, over the channel layer. Audio never goes this way."""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import Any, Literal, NotRequired, TypedDict
from uuid import UUID

from channels.layers import get_channel_layer

from calls.outage import Outage

logger = logging.getLogger(__name__)
_outage = Outage(logger, "telling the pages that watch calls, over the channel layer,")

LIVE_GROUP = "calls.live"
PUBLISH_TIMEOUT_S = 1.0
MOST_CHANGES = 2_000


class CallChanged(TypedDict):
    """Something about a call was stored. Consumers handle it in a method `call_changed`."""

    type: Literal["call.changed"]
    call_id: str
    what: Literal["started", "turn", "event", "finished"]
    turn_index: NotRequired[int]


def group_of(call_id: UUID | str) -> str:
    """The group of those who watch one call."""
    return f"call.{call_id}"


def started(call_id: UUID) -> CallChanged:
    """A call began."""
    return {"type": "call.changed", "call_id": str(call_id), "what": "started"}


def turn(call_id: UUID, index: int) -> CallChanged:
    """A turn began, went on or ended."""
    return {"type": "call.changed", "call_id": str(call_id), "what": "turn", "turn_index": index}


def event(call_id: UUID) -> CallChanged:
    """An error, interruption or change of configuration was stored."""
    return {"type": "call.changed", "call_id": str(call_id), "what": "event"}


def finished(call_id: UUID) -> CallChanged:
    """A call ended."""
    return {"type": "call.changed", "call_id": str(call_id), "what": "finished"}


async def publish(changes: Iterable[CallChanged]) -> None:
    """Tell the watchers of all calls and of these. A layer that fails or hangs is logged, never raised.

    Nothing is published again: what was lost with the layer stays lost, and a page that loads shows it.
    """
    layer: Any = get_channel_layer()
    try:
        async with asyncio.timeout(PUBLISH_TIMEOUT_S):
            for change in changes:
                await layer.group_send(LIVE_GROUP, change)
                await layer.group_send(group_of(change["call_id"]), change)
    except Exception as e:  # a page that misses an event asks again; a call must not end for it
        _outage.failed(e, "they miss what happens")
    else:
        _outage.over()


class Publisher:
    """Publishes in a task of its own: a slow channel layer delays nobody. Keeps the newest changes."""

    def __init__(self) -> None:
        self._changes: deque[CallChanged] = deque(maxlen=MOST_CHANGES)
        self._task: asyncio.Task[None] | None = None

    def put(self, changes: Iterable[CallChanged]) -> None:
        """Publish these soon."""
        self._changes.extend(changes)
        if self._changes and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="events")

    async def close(self) -> None:
        """Publish what is left; bounded by the layer's timeout."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=2 * PUBLISH_TIMEOUT_S)

    async def _run(self) -> None:
        while self._changes:
            changes = list(self._changes)
            self._changes.clear()
            await publish(changes)
