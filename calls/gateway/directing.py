"""What people tell a call that goes on, by the form on its page."""

from uuid import UUID

from asgiref.sync import async_to_sync
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.http import require_POST

from calls.gateway import commands
from calls.gateway.commands import Command, NoAnswer
from calls.models import CallSession, Node
from calls.process import this_process


@login_required
@permission_required("calls.direct_callsession", raise_exception=True)
@require_POST
def command(request: HttpRequest, id: UUID) -> HttpResponse:
    """Tell the call what to do and lead back to its page, where what comes of it is shown."""
    call = get_object_or_404(CallSession.objects.for_analyst(request.user).select_related("node"), pk=id)
    verb, argument = request.POST.get("verb", ""), request.POST.get("argument", "").strip()
    if verb not in commands.VERBS:
        return HttpResponseBadRequest("There is no such command.")
    try:
        _tell(
            call, {"call_id": str(id), "verb": verb, "argument": argument, "by": request.user.get_username()}
        )
    except NoAnswer as e:
        messages.error(request, str(e))
    return redirect(f"{call.get_absolute_url()}#live")


def _tell(call: CallSession, told: Command) -> None:
    """Hand the command to the process that runs the call. Raises NoAnswer."""
    node = call.node
    if not call.is_active:
        raise NoAnswer("The call has ended.")
    if node is None or Node.objects.gone().filter(pk=node.pk).exists():
        raise NoAnswer("The server that ran this call is gone; the call is about to be closed.")
    if not settings.REDIS_URL and node.pk != this_process.boot:
        raise NoAnswer(
            f"The call runs in another server, {node.name}. Without REDIS_URL only `manage.py calls` on its "
            "machine reaches it."
        )
    async_to_sync(commands.tell)(node.pk, told)
