"""What is known of a connection before its client has said anything."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from calls.conversation.control import NO_CONTROL, Control
from calls.events import Request
from calls.models import EndReason
from calls.profiles.choosing import ChosenProfile
from calls.rustpbx.dialect import Dialect


async def _nothing(_reason: EndReason) -> None:
    pass


# What the model is told in a call that begins anew, as the one before is not kept any more.
BACK = "The caller has talked to you before and is on the line again: {why}. Tell him, and go on."


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call as its PBX has announced it; of a client that just connects, nothing is known.

    Attributes:
        key: under which the call is kept while it is transferred, "" if it cannot come back. A connection
            with the key of a call that is kept goes on with that call.
        control: what can be done with the call.
        why_back: why a call that was transferred is back.
        told: what the PBX has said of the call: fields of Request.
        dialect: how the client is spoken to; None if its URL tells.
        chosen: the profile that answers; None if the request names one.
        leaving: is awaited before our side closes the connection, with the reason.
    """

    key: str = ""
    control: Control = NO_CONTROL
    why_back: str = ""
    told: Mapping[str, Any] = field(default_factory=dict)
    leaving: Callable[[EndReason], Awaitable[None]] = _nothing
    dialect: Dialect | None = None
    chosen: ChosenProfile | None = None

    def described(self, request: Request) -> Request:
        """What the client asks for, with what its PBX has said, which counts; of a new call that is back."""
        if self.why_back:
            request = replace(request, system_prompt=BACK.format(why=self.why_back))
        return replace(request, **self.told)


UNANNOUNCED = Arrival()
