"""What is known of a connection before its client has said anything."""

from dataclasses import dataclass

from calls.conversation.control import NO_CONTROL, Control


@dataclass(frozen=True, slots=True)
class Arrival:
    """A call as its PBX has announced it; of a client that just connects, nothing is known.

    Attributes:
        key: under which the call is kept while it is transferred, "" if it cannot come back. A connection
            with the key of a call that is kept goes on with that call.
        control: what can be done with the call.
        why_back: why a call that was transferred is back.
    """

    key: str = ""
    control: Control = NO_CONTROL
    why_back: str = ""


UNANNOUNCED = Arrival()
