"""Commands to the calls of this process, from other processes, over the channel layer.

Each process listens on a channel named after its boot, which is stored with its calls, and answers on the
channel that the asker names. Without Redis the layer stays within the process: then askers on this machine
come through a WebSocket (`calls.consumers.CommandConsumer`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict
from uuid import UUID

from channels.layers import get_channel_layer
from django.core import signing

from calls import events
from calls.conversation.control import Refused
from calls.conversation.verbs import Verbs
from calls.gateway import registry
from calls.models import EndReason
from calls.outage import Outage
from calls.process import this_process
from calls.tasks import Tasks

logger = logging.getLogger(__name__)
_outage = Outage(logger, "listening for commands, over the channel layer,")

ANSWER_S = 40.0  # a farewell takes 20 s at most, what the PBX does 10
RETRY_S = 1.0
TOLD_S = 2.0
TASKS_S = 0.5
_signer = signing.TimestampSigner(salt="calls.commands")
SIGNED_FOR_S = 30


class Command(TypedDict):
    """What a call is to do: one of VERBS, with a text, a destination or "". `by` tells who says so."""

    call_id: str
    verb: str
    argument: str
    by: str


class Answer(TypedDict):
    """Whether the command was carried out, and what came of it, for people."""

    ok: bool
    message: str


class NoAnswer(Exception):
    """The process that runs the call did not answer in time, or cannot be reached; the text says why."""


async def _say(verbs: Verbs, text: str) -> str:
    await verbs.say(text)
    return "The agent says it."


async def _hang_up(verbs: Verbs, _argument: str) -> str:
    refused = await verbs.end(EndReason.HUNG_UP)
    if refused:
        return f"The agent has taken leave, but the caller's telephone was not hung up: {refused}."
    return "The agent has taken leave and hung up."


async def _transfer(verbs: Verbs, destination: str) -> str:
    await verbs.transfer(destination)
    return f"The call was handed on to {destination}. If it is not taken there, it comes back."


async def _hold(verbs: Verbs, text: str) -> str:
    await verbs.hold_on(text)
    return "The caller is told to hold on, and gets no answers for two minutes, or until the call is resumed."


async def _mute(verbs: Verbs, _argument: str) -> str:
    await verbs.mute()
    return "The agent is silent, and answers nothing for two minutes, or until the call is resumed."


async def _prompt(verbs: Verbs, text: str) -> str:
    await verbs.prompt(text)
    return "The agent goes by the new prompt from its next reply on."


async def _resume(verbs: Verbs, _argument: str) -> str:
    await verbs.go_on()
    return "The agent answers again."


VERBS: dict[str, Callable[[Verbs, str], Awaitable[str]]] = {
    "say": _say,
    "hangup": _hang_up,
    "transfer": _transfer,
    "hold": _hold,
    "mute": _mute,
    "resume": _resume,
    "prompt": _prompt,
}


async def obey(command: Command) -> Answer:
    """Carry out a command to a call of this process."""
    call = registry.running.get(UUID(command["call_id"]))
    if call is None:
        return {"ok": False, "message": "The call has ended."}
    verb, argument = command["verb"], command["argument"]
    try:
        answer: Answer = {"ok": True, "message": await VERBS[verb](call.verbs, argument)}
    except Refused as e:
        answer = {"ok": False, "message": f"Refused: {e}."}
    call.take(events.Commanded(verb, argument, command["by"], answer["message"], answer["ok"]))
    return answer


async def ask(boot: UUID, command: Command) -> Answer:
    """Have the process with this boot carry out a command, over the channel layer.

    Raises:
        NoAnswer: it did not answer within 40 s, or the layer is away.
    """
    layer: Any = get_channel_layer()
    try:
        async with asyncio.timeout(ANSWER_S):
            reply = await layer.new_channel("answer")
            await layer.send(_channel_of(boot), {"type": "call.command", "reply": reply, **command})
            answer = await layer.receive(reply)
    except TimeoutError:
        raise NoAnswer(f"The server did not answer within {ANSWER_S:g} s; it may yet do it.") from None
    except Exception as e:
        raise NoAnswer(f"Redis cannot be used: {type(e).__name__}: {e}.") from e
    return {"ok": answer["ok"], "message": answer["message"]}


async def tell(boot: UUID, command: Command) -> None:
    """Have the process with this boot carry out a command; what comes of it is an event of the call.

    Raises:
        NoAnswer: the layer is away.
    """
    layer: Any = get_channel_layer()
    try:
        async with asyncio.timeout(TOLD_S):
            await layer.send(_channel_of(boot), {"type": "call.command", "reply": "", **command})
    except Exception as e:
        raise NoAnswer(f"Redis cannot be used: {type(e).__name__}: {e}.") from e


def signature() -> str:
    """What lets a process with the same SECRET_KEY give commands to this one, for 30 s."""
    return _signer.sign("commands")


def is_signed(offered: str) -> bool:
    """Whether `offered` is such a signature."""
    try:
        return _signer.unsign(offered, max_age=SIGNED_FOR_S) == "commands"
    except signing.BadSignature:
        return False


# --- Listening --------------------------------------------------------------------------------------------


class _Listener:
    """Takes the commands that come over the channel layer. Lives on one event loop."""

    def __init__(self) -> None:
        self._channel = _channel_of(this_process.boot)
        self._obeying = Tasks()
        self._task = asyncio.create_task(self._run(), name="commands")

    async def close(self) -> None:
        """Take no more commands, and carry none out any more."""
        self._task.cancel()
        await asyncio.wait({self._task})
        self._obeying.cancel()
        await self._obeying.wait(TASKS_S)

    async def _run(self) -> None:
        layer: Any = get_channel_layer()
        while True:
            try:
                message = await layer.receive(self._channel)
            except Exception as e:  # calls go on without
                _outage.failed(e, "none can be given")
                await asyncio.sleep(RETRY_S)
                continue
            _outage.over()
            self._obeying.spawn(self._obey(message))

    async def _obey(self, message: dict[str, Any]) -> None:
        command: Any = {name: message.get(name, "") for name in Command.__annotations__}
        answer = await obey(command)
        if message["reply"]:
            layer: Any = get_channel_layer()
            await layer.send(message["reply"], {"type": "call.answer", **answer})


def _channel_of(boot: UUID) -> str:
    return f"commands.{boot}"


_listener: _Listener | None = None


def start() -> None:
    """Listen for commands."""
    global _listener  # noqa: PLW0603  one for the process is the point
    _listener = _Listener()


async def close() -> None:
    """Listen no more."""
    global _listener  # noqa: PLW0603  see start()
    if _listener is not None:
        await _listener.close()
        _listener = None
