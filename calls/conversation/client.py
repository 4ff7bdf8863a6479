"""The way from a call to its client."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from calls import events
from calls.audio.format import AS_A_TELEPHONE, VoiceOut
from calls.conversation.control import NO_CONTROL, Control
from calls.models import EndReason


@dataclass(frozen=True, slots=True)
class Client:
    """The way to the client.

    `take` is given what happens and never waits; `send_audio` sends 20 ms of voice, as
    `voice` says; `hang_up` ends the connection with an error that says why, `leave` for a good reason.
    `control` is what can be done with the call itself. `is_typed`: its caller types and reads.
    """

    take: events.Sink
    send_audio: Callable[[bytes], Awaitable[None]]
    hang_up: Callable[[str], None]
    leave: Callable[[EndReason], None]
    address: str
    voice: VoiceOut = AS_A_TELEPHONE
    control: Control = NO_CONTROL
    is_typed: bool = False


def nobody(client: Client, over: Callable[[EndReason, str], None]) -> Client:
    """In the place of a client that has gone and may come back: takes everything and keeps nothing.

    `over` is called with the reason, and an error or "", when the call ends meanwhile.
    """
    return replace(
        client,
        take=_ignore,
        send_audio=_drop,
        hang_up=lambda error: over(EndReason.ERROR, error),
        leave=lambda reason: over(reason, ""),
    )


def _ignore(_event: events.Event) -> None:
    pass


async def _drop(_pcm: bytes) -> None:
    pass
