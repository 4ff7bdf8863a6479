"""The analysts' pages: the list of calls, and one call."""

from collections.abc import Callable
from uuid import UUID

from django.contrib.auth.decorators import login_required, permission_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from calls.models import CallSession, failures
from calls.pages import timeline
from calls.pages.filters import CallFilterForm

PAGE_SIZE = 25
HEAVY_COLUMNS = ("config", "client_configs", "metadata", "error")


def analyst_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show the page by GET to those who may view calls: others get the login page, or 403 when logged in."""
    allowed = permission_required("calls.view_callsession", raise_exception=True)
    return require_safe(login_required(allowed(view)))


@analyst_page
def call_list(request: HttpRequest) -> HttpResponse:
    """Show the calls the filters let through, newest first, a page at a time."""
    form = CallFilterForm(request.GET, label_suffix="")
    calls = form.apply(CallSession.objects.for_analyst(request.user))
    calls = failures.with_error_count(calls).select_related("profile").defer(*HEAVY_COLUMNS)
    page = Paginator(calls, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "calls/call_list.html", {"form": form, "page": page})


@analyst_page
def call_detail(request: HttpRequest, id: UUID) -> HttpResponse:
    """Show a call: its facts, its timeline, its transcript, its events and how it was configured."""
    calls = CallSession.objects.for_analyst(request.user).select_related("profile")
    call = get_object_or_404(calls, pk=id)
    turns, events = list(call.turns.all()), list(call.events.all())
    context = {
        "call": call,
        "turns": turns,
        "events": events,
        "failures": failures.together(events),
        "timeline": timeline.draw(call, turns, events),
    }
    return render(request, "calls/call_detail.html", context)
