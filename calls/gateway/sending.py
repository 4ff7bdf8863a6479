"""What one client is sent: what happens in its call as messages, the agent's voice, and pings."""

import voiceagent
from calls import events
from calls.conversation.call import Call
from calls.gateway.outbox import Outbox
from calls.rustpbx import messages
from calls.rustpbx.dialect import Dialect
from calls.rustpbx.messages import Timed
from calls.rustpbx.outgoing import now_ms


class Sending:
    """Says to one client what it understands.

    Args:
        dialect: how the client is spoken to; it may be found out later.
        outbox: sends it.
    """

    def __init__(self, dialect: Dialect, outbox: Outbox) -> None:
        self.dialect = dialect
        self._outbox = outbox
        self._frames = 0

    def message(self, message: Timed) -> None:
        """Queue a message, if the client takes any."""
        if text := self.dialect.encode(message):
            self._outbox.put(text)

    def event(self, event: events.Event) -> None:
        """Queue the message for what happened, if the client has one."""
        if message := self.dialect.message_of(event):
            self.message(message)

    def connected(self) -> None:
        """Queue the first message of all."""
        version = voiceagent.__version__
        self.message(messages.Connected(timestamp=now_ms(), server="voiceagent", version=version))

    def configured(self, call: Call) -> None:
        """Queue the answer to `configure`."""
        self.message(messages.Configured(timestamp=now_ms(), call_id=str(call.id), status="ready"))

    def ping(self) -> None:
        """Queue a ping, if the client needs any."""
        if self.dialect.needs_pings:
            self.message(messages.ServerPing(timestamp=now_ms()))

    async def audio(self, pcm: bytes) -> None:
        """Send 20 ms of the agent's voice at once."""
        self._frames += 1
        if (voice := self.dialect.encode_voice(pcm, self._frames)) is not None:
            await self._outbox.send(voice)
