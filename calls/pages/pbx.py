"""A PBX is connected: its files to copy, what works and what does not, and the first call as it comes."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from calls.models import CallStatus, Pbx, PbxKind, PbxSession, SessionState
from calls.models.pbx import TOKEN_BYTES, spoken_name
from calls.pages import pbx_checks
from calls.rustpbx import configuration
from calls.rustpbx.configuration import Facts

AUDIO_IS_NOTED_WITHIN = timedelta(seconds=12)  # a call's audio is noted every 5 s


def manager_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show the page to those who may change PBXes; it is kept nowhere."""
    allowed = permission_required("calls.change_pbx", raise_exception=True)
    return never_cache(login_required(allowed(view)))


@require_http_methods(["GET", "HEAD", "POST"])
@manager_page
def connect(request: HttpRequest, pk: int) -> HttpResponse:
    """Show the PBX's files; by POST make its tokens, which are shown this once, or try everything out."""
    pbx = get_object_or_404(Pbx, pk=pk)
    action = request.POST.get("action", "")
    facts = _with_new_tokens(pbx) if action == "tokens" else _facts(pbx)
    files = configuration.of_fork if pbx.kind == PbxKind.FORK else configuration.of_bridge
    context = {
        "pbx": pbx,
        "is_fork": pbx.kind == PbxKind.FORK,
        "files": files(facts),
        "has_new_tokens": action == "tokens",
        "checks": pbx_checks.check(pbx) if action == "test" else None,
        "sound": reverse("rustpbx-say", args=[sound]) if (sound := _sound(pbx)) else "",
        "since": timezone.now().isoformat(),
        **_first_call(pbx, timezone.now()),
    }
    return render(request, "calls/pbx_connect.html", context)


@require_safe
@manager_page
def watch(request: HttpRequest, pk: int) -> HttpResponse:
    """Show what has become of the first call since `?since=`, for the page to put in its place."""
    pbx = get_object_or_404(Pbx, pk=pk)
    try:
        since = parse_datetime(request.GET.get("since", "").replace(" ", "+"))
    except ValueError:
        since = None
    if since is None or since.tzinfo is None:
        since = timezone.now()
    return render(request, "calls/_first_call.html", {"pbx": pbx, **_first_call(pbx, since)})


def _sound(pbx: Pbx) -> str:
    return spoken_name(pbx.overflow_text) if pbx.overflow_text.strip() else ""


def _facts(pbx: Pbx) -> Facts:
    return Facts(pbx.agent_url, pbx.return_target, pbx=pbx.pk)


def _with_new_tokens(pbx: Pbx) -> Facts:
    """Make our token, and those of the PBX that are not set."""
    made = {}
    for name in ("api_token", "rwi_token"):
        if not getattr(pbx, f"sealed_{name}"):
            made[name] = secrets.token_urlsafe(TOKEN_BYTES)
            setattr(pbx, name, made[name])
    pbx.save()
    return Facts(pbx.agent_url, pbx.return_target, pbx.new_ivr_token(), pbx=pbx.pk, **made)


def _first_call(pbx: Pbx, since: datetime) -> dict[str, object]:
    """The first call since then: how it stands, in a word that the template explains."""
    session = (
        PbxSession.objects.filter(pbx=pbx, started_at__gte=since)
        .select_related("call")
        .order_by("pk")
        .first()
    )
    return {"session": session, "stands": "waiting" if session is None else _stands(session)}


def _stands(session: PbxSession) -> str:
    call, now = session.call, timezone.now()
    if call is not None and call.audio_in_s > 0:
        return "well"
    if session.state == SessionState.BRIDGING:
        is_late = session.expires_at is not None and session.expires_at < now
        return "unconnected" if is_late else "connecting"
    if session.connected_at is None:
        return "overflow"
    is_over = call is None or call.status != CallStatus.ACTIVE
    return "mute" if is_over or session.connected_at < now - AUDIO_IS_NOTED_WITHIN else "listening"
