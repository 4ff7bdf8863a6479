"""The pages about profiles: how each stands, what it says, its versions, its calls, and how to reach it."""

from typing import Any

from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render

from calls.models import PbxRoute, PromptProfile
from calls.pages.access import profile_calls_page, profile_page
from calls.profiles import comparing, results, standing
from calls.profiles.comparing import DRAFT
from calls.profiles.difference import between
from calls.profiles.fields import settings_of, texts_of
from calls.profiles.readiness import readiness
from calls.rustpbx import configuration

PROFILES = 50  # on a page of the list
VERSIONS = 20  # on a page of one profile's
MEASURED = 10  # versions on a page of results
SHOWS_CALLS = "calls.view_callsession"


@profile_page
def profile_list(request: HttpRequest) -> HttpResponse:
    """Show the profiles, the default one first, and how their calls went; `?archived=on` the others."""
    is_archive = bool(request.GET.get("archived"))
    archived = PromptProfile.objects.archived()
    profiles = archived if is_archive else PromptProfile.objects.in_use()
    ordered = profiles.order_by("-is_default", "name", "pk")
    page = Paginator(ordered, PROFILES).get_page(request.GET.get("page"))
    sees_calls = request.user.has_perm(SHOWS_CALLS)
    figures = results.lately(page) if sees_calls else {}
    context = {
        "page": page,
        "rows": [(each, figures.get(each.profile.pk, results.Lately())) for each in standing.of(page)],
        "sees_calls": sees_calls,
        "is_archive": is_archive,
        "archived": archived.count(),
        "days": results.DAYS,
        "since": results.since(),
    }
    return render(request, "profiles/profile_list.html", context)


@profile_page
def says(request: HttpRequest, slug: str) -> HttpResponse:
    """Show what a profile says and how it is set: its newest version, or that of `?version=`, or "draft"."""
    profile = _profile(slug)
    newest = profile.current_version
    wanted = request.GET.get("version") or (str(newest.number) if newest else DRAFT)
    side = _side(profile, wanted)
    context = {
        "side": side,
        "newest": newest,
        "texts": list(texts_of(side.configuration)),
        "settings": list(settings_of(side.configuration)),
        "shown_findings": readiness(side.configuration),
    }
    return _tab(request, profile, "says", context)


@profile_page
def versions(request: HttpRequest, slug: str) -> HttpResponse:
    """Show a profile's versions, and what differs between `?from=` and `?to=`: numbers, or "draft"."""
    profile = _profile(slug)
    page = Paginator(profile.versions.select_related("author"), VERSIONS).get_page(request.GET.get("page"))
    usual = comparing.usual_pair(profile)
    names = [request.GET.get(name) or default for name, default in zip(("from", "to"), usual, strict=True)]
    sides = [_side(profile, name) for name in names if name]
    counts = results.calls_of(page) if request.user.has_perm(SHOWS_CALLS) else {}
    context = {
        "page": page,
        "rows": [(version, counts.get(version.pk, 0)) for version in page],
        "pair": sides if len(sides) == 2 else [],
        "difference": between(*(side.configuration for side in sides)) if len(sides) == 2 else None,
    }
    return _tab(request, profile, "versions", context)


@profile_calls_page
def calls_went(request: HttpRequest, slug: str) -> HttpResponse:
    """Show how the calls of each version went, beside those of the version before."""
    profile = _profile(slug)
    page = Paginator(profile.versions.select_related("author"), MEASURED).get_page(request.GET.get("page"))
    one_more = profile.versions.all()[page.end_index() : page.end_index() + 1]
    measured = results.of_versions([*page, *one_more])
    earlier = [*measured[1:], None][: len(measured)]
    context = {
        "page": page,
        "rows": list(zip(measured, earlier, strict=True))[: len(page)],
        "looked_at": results.LOOKED_AT,
        "few": results.FEW,
    }
    return _tab(request, profile, "results", context)


@profile_page
def connect(request: HttpRequest, slug: str) -> HttpResponse:
    """Show how a PBX reaches the profile: its address, the fork's file, and the routes there are."""
    profile = _profile(slug)
    url = configuration.socket_url(request.build_absolute_uri("/").rstrip("/"), profile=profile.slug)
    routes = PbxRoute.objects.filter(profile=profile).select_related("pbx").order_by("pbx__name", "position")
    context = {
        "url": url,
        "host": request.get_host(),
        "file": configuration.of_client(url),
        "routes": routes if request.user.has_perm("calls.view_pbx") else None,
    }
    return _tab(request, profile, "connect", context)


def _profile(slug: str) -> PromptProfile:
    return get_object_or_404(PromptProfile, slug=slug)


def _side(profile: PromptProfile, name: str) -> comparing.Side:
    """A version or the draft, by name; a page that is not there for another."""
    side = comparing.side(profile, name)
    if side is None:
        raise Http404(f"{profile} has no version {name}")
    return side


def _tab(request: HttpRequest, profile: PromptProfile, tab: str, context: dict[str, Any]) -> HttpResponse:
    (stands,) = standing.of([profile])
    shared = {"profile": profile, "stands": stands, "tab": tab}
    return render(request, f"profiles/{tab}.html", shared | context)
