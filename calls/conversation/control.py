"""How a call is really ended or handed on, which only the side that holds the telephone can do."""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Protocol

logger = logging.getLogger(__name__)

ANSWERS_WITHIN_S = 10.0


class Refused(Exception):
    """What was asked of a call cannot be done. The text says why, for people, as part of a sentence."""


class Control(Protocol):
    """What the PBX of a call lets us do with it."""

    def destinations(self) -> Mapping[str, str]:
        """Where the call can be transferred: what people read, by name."""

    async def end(self) -> None:
        """End the call on the telephone. Raises Refused."""

    async def transfer(self, destination: str) -> None:
        """Hand the call on to one of the destinations, once we leave the socket. Raises Refused."""


class NoControl:
    """Of a client that takes no orders: closing its socket is all we can do."""

    def destinations(self) -> Mapping[str, str]:
        """None."""
        return {}

    async def end(self) -> None:
        """Raise Refused."""
        raise Refused("this client cannot be told to hang up, only its socket can be closed")

    async def transfer(self, destination: str) -> None:
        """Raise Refused."""
        raise Refused("this client cannot transfer calls")


NO_CONTROL = NoControl()


def name_of(control: Control, destination: str) -> str:
    """What people call the destination. Raises Refused for one that the call cannot be transferred to."""
    destinations = control.destinations()
    if destination in destinations:
        return destinations[destination]
    if not destinations:
        raise Refused("there is nowhere this call can be transferred to")
    raise Refused(f"expected a destination out of {', '.join(destinations)}, got {destination!r}")


async def carried_out(order: Awaitable[None]) -> str:
    """Why the control did not carry out the order, "" if it did; within 10 s."""
    try:
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            await order
    except Refused as e:
        return str(e)
    except TimeoutError:
        return f"the PBX did not answer within {ANSWERS_WITHIN_S:g} s"
    except Exception as e:
        logger.exception("a call's control failed")
        return f"it failed with {type(e).__name__}"
    return ""
