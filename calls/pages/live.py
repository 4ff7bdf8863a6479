"""A call that goes on, as its page shows it."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from calls.models import CallEvent, CallSession, EventKind, Severity, Turn
from calls.pages.access import analyst_page

SHOWN = 6  # of the latest turns
TOLD = 3  # of the latest commands


@analyst_page
def live(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show how the call goes now, for its page to put in place of what it shows."""
    call = get_object_or_404(CallSession.objects.for_analyst(request.user).select_related("node"), pk=id)
    return render(request, "calls/_live.html", {"call": call, **seen_of(call)})


def seen_of(call: CallSession) -> dict[str, list[Turn] | list[CallEvent]]:
    """Return the latest turns and commands of a call, each in order."""
    told = call.events.filter(kind=EventKind.COMMAND).order_by("-ms", "-pk")[:TOLD]
    return {
        "latest": list(call.turns.order_by("-index")[:SHOWN])[::-1],
        "told": list(told)[::-1],
    }


def prompt_of(call: CallSession) -> tuple[str, bool]:
    """Return the system prompt, a template, that somebody typed last, else the profile's.

    And whether it was refused, so that another is in force.
    """
    for event in call.events.filter(kind=EventKind.COMMAND).order_by("-ms", "-pk"):
        if event.detail.get("verb") == "prompt":
            return str(event.detail["argument"]), event.severity != Severity.INFO
    configuration = call.draft or (call.version.configuration if call.version else {})
    return str(configuration.get("system_prompt", "")), False
