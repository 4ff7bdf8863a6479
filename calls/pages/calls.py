"""The analysts' pages: the list of calls, and one call."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from calls.models import CallEvent, CallSession, Node
from calls.pages import parts, timeline
from calls.pages.access import analyst_page
from calls.pages.filters import CallFilterForm
from calls.pages.finding import page_of

HEAVY_COLUMNS = ("in_force", "client_configs", "metadata", "error")


@analyst_page
def call_list(request: HttpRequest) -> HttpResponse:
    """Show the calls the filters let through, newest first, a page at a time."""
    form = CallFilterForm(request.GET, label_suffix="")
    calls = form.apply(CallSession.objects.for_analyst(request.user))
    calls = calls.select_related("profile").defer(*HEAVY_COLUMNS)
    places = {name: request.GET.get(name, "") for name in ("before", "after")}
    page = page_of(calls, form.query, **places)
    context = {"form": form, "page": page, "nodes": Node.objects.wanting()}
    return render(request, "calls/call_list.html", context)


@analyst_page
def call_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show a call: its facts, failures, timeline, transcript and events, and how it was configured.

    Of a long call the part with the turn `?turn=` and the part of the events with `?event=`.
    """
    calls = CallSession.objects.for_analyst(request.user).select_related("version", "profile", "node")
    call = get_object_or_404(calls, pk=id)
    turns = parts.turns_of(call, request.GET.get("turn", ""))
    events = parts.events_of(call, request.GET.get("event", ""))
    span = parts.span_of(call, turns)
    marks = parts.marks_between(call, events, *span)
    context = {
        "call": call,
        "turns": turns.rows,
        "turns_part": turns,
        "events": events.rows,
        "events_part": events,
        "failures": CallEvent.objects.failures_of(call.pk) if call.error_count else [],
        "timeline": timeline.draw(call, turns.rows, marks, *span),
    }
    return render(request, "calls/call_detail.html", context)
