"""The analysts' pages: the list of calls, and one call."""

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from calls.models import CallEvent, CallSession, Node, PbxSession, turn_totals
from calls.pages import live, parts, timeline
from calls.pages.access import analyst_page
from calls.pages.addresses import list_left, list_seen
from calls.pages.filters import CallFilterForm
from calls.pages.finding import EMPTY, page_of

HEAVY_COLUMNS = ("in_force", "client_configs", "metadata", "error")


@analyst_page
def call_list(request: HttpRequest) -> HttpResponse:
    """Show the calls the filters let through, newest first, a page at a time; none if a filter is wrong."""
    form = CallFilterForm(request.GET, label_suffix="")
    page = EMPTY
    if form.is_valid():
        calls = form.apply(CallSession.objects.for_analyst(request.user))
        calls = calls.select_related("profile").defer(*HEAVY_COLUMNS)
        places = {name: request.GET.get(name, "") for name in ("before", "after")}
        page = page_of(calls, form.query, **places)
    nodes = Node.objects.wanting()
    context = {"form": form, "page": page, "list_query": list_seen(request), "nodes": nodes}
    return render(request, "calls/call_list.html", context)


@analyst_page
def call_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show a call: its facts, failures, timeline, transcript and events, and how it was configured.

    Of a long call the part with the turn `?turn=` and the part of the events with `?event=`: a number, or the
    first at a time, such as `?event=1500ms`. `?list=` is the query of the list to go back to.
    """
    calls = CallSession.objects.for_analyst(request.user).select_related("version", "profile", "node")
    call = get_object_or_404(calls, pk=id)
    call.telephone = PbxSession.objects.filter(call=call).select_related("pbx").first()
    turns = parts.turns_of(call, request.GET.get("turn", ""))
    events = parts.events_of(call, request.GET.get("event", ""))
    span = parts.span_of(call, turns)
    marks = parts.marks_between(call, events, *span)
    if call.is_active:  # these are stored at its end
        for name, value in turn_totals(call.turns.values_list("total_ms", flat=True)).items():
            setattr(call, name, value)
    failures = CallEvent.objects.failures_of(call.pk) if call.error_count else []
    context = {
        "call": call,
        "list_query": list_left(request),
        "turns": turns.rows,
        "turns_part": turns,
        "events": parts.keys_together(events.rows),
        "events_part": events,
        "failures": failures,
        "other_failures": call.error_count - sum(failure.count for failure in failures),
        "timeline": timeline.draw(call, turns.rows, parts.keys_together(marks), *span),
    }
    if call.is_active:
        context |= live.seen_of(call)
        if request.user.has_perm("calls.direct_callsession"):
            context["prompt"], context["is_prompt_refused"] = live.prompt_of(call)
    return render(request, "calls/call_detail.html", context)
