"""How the call of a connection begins: as a new one, or as one that is back from a transfer."""

from calls.conversation.call import Call, Progress
from calls.conversation.client import Client
from calls.events import Request
from calls.gateway import registry
from calls.gateway.arrival import Arrival
from calls.gateway.mistakes import Mistakes
from calls.profiles.choosing import ChosenProfile, NoProfile, choose
from calls.recorder.writer import recorder
from calls.rustpbx.messages import ErrorCode


async def begin(
    client: Client, request: Request, arrival: Arrival, mistakes: Mistakes, progress: Progress
) -> Call:
    """Start a new call with the profile asked for, or go on with the one that is kept for this arrival.

    Raises:
        NoProfile: there is none to answer. This is stored.
        Exception: what building the call raised.
    """
    if call := registry.take(arrival.key, client.voice):
        call.attach(client, progress, arrival.why_back)
    else:
        call = await _new(client, arrival.described(request), arrival.chosen, mistakes)
        call.start(progress)
    registry.running[call.id] = call
    mistakes.store_with(call.misused)
    return call


async def _new(client: Client, request: Request, chosen: ChosenProfile | None, mistakes: Mistakes) -> Call:
    slug, version = request.profile or "", request.version
    who = {"caller": request.caller or "", "callee": request.callee or ""}
    try:
        chosen = chosen or await choose(slug, version=version, **who)
    except NoProfile as e:
        Call.refuse(client, request, recorder(), str(e))
        raise
    if not chosen.found and chosen.slug == slug:
        message = f"expected a version of profile {slug!r}, got {version}; {chosen.number} answers"
        mistakes.add(ErrorCode.NOT_FOUND, message)
    elif not chosen.found:
        message = f"expected a published profile, got {slug!r}; the default one answers"
        mistakes.add(ErrorCode.NOT_FOUND, message)
    return Call(client, request, chosen, recorder())
