"""The pages around a profile's form: what stands beside it, and what can be done with the profile."""

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.text import capfirst

from calls.admin.forms import UnsavedProfileForm
from calls.models import PromptProfile
from calls.models.turntaking import one_at_a_time
from calls.profiles import succession
from calls.profiles.readiness import Finding, readiness
from calls.profiles.starters import LANGUAGES, starters
from calls.providers import accounts

SHOWN_VERSIONS = 5
BESIDE = "admin/calls/promptprofile"
CHANGED = "Meanwhile somebody else changed this profile. Nothing is done yet; look again."


class ProfilePages(admin.ModelAdmin):
    """The column beside a profile's form, and its pages: archive, restore, duplicate."""

    def get_urls(self) -> list[URLPattern]:
        """Return the pages of the admin and those of a profile."""
        pages: dict[str, tuple[str, Any]] = {
            "readiness": ("readiness/", self.readiness_view),
            "archive": ("<path:object_id>/archive/", self.archive_view),
            "unarchive": ("<path:object_id>/unarchive/", self.unarchive_view),
            "duplicate": ("<path:object_id>/duplicate/", self.duplicate_view),
            "restore": ("<path:object_id>/restore/<int:number>/", self.restore_view),
        }
        ours = [
            path(route, self.admin_site.admin_view(view), name=f"calls_promptprofile_{name}")
            for name, (route, view) in pages.items()
        ]
        return [*ours, *super().get_urls()]

    # --- Beside the form ------------------------------------------------------------------------------------

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the form with its readiness, its versions, and what a new profile can start from."""
        accounts.refresh()
        form, profile = context["adminform"].form, context.get("original")
        context |= {
            "findings": _findings(form),
            "versions": _versions(profile),
            "is_changed": profile is not None and profile.has_changes,
            "starters": None if profile else _starters(request),
            "is_started": bool(form.initial.get("system_prompt")) or form.is_bound,
        }
        return super().render_change_form(request, context, *args, **kwargs)

    def readiness_view(self, request: HttpRequest) -> HttpResponse:
        """Say whether what is typed would work in a call, of `?profile=` or a new one; nothing is saved."""
        if not (self.has_add_permission(request) or self.has_change_permission(request)):
            raise PermissionDenied
        accounts.refresh()
        stored = self.get_object(request, request.GET.get("profile", ""))
        form = self.get_form(request, stored, form=UnsavedProfileForm)(
            request.POST, instance=stored or PromptProfile()
        )
        form.full_clean()
        context = {"findings": readiness(form.instance.configuration())}
        return TemplateResponse(request, f"{BESIDE}/_readiness.html", context)

    # --- What can be done with a profile --------------------------------------------------------------------

    def archive_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask, saying who answers then, and put the profile away."""
        profile = self._profile(request, object_id)
        if request.method == "POST":
            with one_at_a_time(PromptProfile):
                profile = self._profile(request, object_id)
                if is_same := _is_as_seen(request, profile):
                    profile.archive()
                    self.log_change(request, profile, "Archived.")
            if is_same:
                messages.success(request, f"“{profile}” is archived: no call uses it.")
                return redirect(reverse("admin:calls_promptprofile_changelist"))
            messages.warning(request, CHANGED)
        said = "No call will use it. Its versions and calls stay, and it can be taken out again."
        consequence = succession.after_leaving([profile])
        return self._ask(request, profile, "Archive", said, consequence=consequence)

    def unarchive_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Take the profile out again."""
        return self._done(
            request, object_id, "unarchive", "It is a draft again; publish it to have calls use it."
        )

    def duplicate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a copy, and show it."""
        if not self.has_add_permission(request):
            raise PermissionDenied
        return self._done(request, object_id, "duplicate", "This is the copy, a draft of its own.")

    def restore_view(self, request: HttpRequest, object_id: str, number: int) -> HttpResponse:
        """Ask, saying what the draft loses, and make the draft what a version was."""
        profile = self._profile(request, object_id)
        version = profile.versions.filter(number=number).first()
        if version is None:
            raise Http404
        if request.method == "POST":
            with one_at_a_time(PromptProfile):
                profile = self._profile(request, object_id)
                if is_same := _is_as_seen(request, profile):
                    profile.restore(version)
                    self.log_change(request, profile, f"Restored version {number} as the draft.")
            if is_same:
                said = f"The draft is what version {number} was. Publish it to have calls use it."
                messages.success(request, said)
                return redirect(reverse("admin:calls_promptprofile_change", args=[profile.pk]))
            messages.warning(request, CHANGED)
        draft, old = profile.configuration(), version.in_full()
        labels = [capfirst(field.verbose_name) for field in PromptProfile._meta.concrete_fields
                  if field.name in old and old[field.name] != draft[field.name]]  # fmt: skip
        said = f"The draft becomes what version {number} was. Calls go on as they do until it is published."
        lost = (
            "The draft has changes that are in no version; they are replaced." if profile.has_changes else ""
        )
        return self._ask(request, profile, f"Restore version {number}", said, consequence=lost, fields=labels)

    def _done(self, request: HttpRequest, object_id: str, verb: str, said: str) -> HttpResponse:
        """Do something that needs no question with a profile, and show what came of it."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        profile = self._profile(request, object_id)
        with one_at_a_time(PromptProfile):
            outcome = getattr(self._profile(request, object_id), verb)() or profile
            self.log_change(request, outcome, f"{verb.capitalize()}d.")
        messages.success(request, said)
        return redirect(reverse("admin:calls_promptprofile_change", args=[outcome.pk]))

    def _profile(self, request: HttpRequest, object_id: str) -> PromptProfile:
        """Return the profile, for somebody who may change it. Raises Http404 and PermissionDenied."""
        profile = self.get_object(request, object_id)
        if not self.has_change_permission(request, profile):
            raise PermissionDenied
        if not isinstance(profile, PromptProfile):
            raise Http404
        return profile

    def _ask(
        self, request: HttpRequest, profile: PromptProfile, verb: str, said: str, **more: Any
    ) -> HttpResponse:
        title = f"{verb}: {profile}"
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "original": profile,
        }
        return TemplateResponse(
            request, f"{BESIDE}/confirm.html", {**context, "verb": verb, "said": said, **more}
        )


def _is_as_seen(request: HttpRequest, profile: PromptProfile) -> bool:
    """Whether nobody has changed the profile since the page was made that is sent."""
    return request.POST.get("revision", str(profile.revision)) == str(profile.revision)


def _findings(form: Any) -> list[Finding]:
    """What is to be said of the profile as the form shows it."""
    profile = form.instance
    if not form.is_bound and not profile.pk:
        profile = PromptProfile()
        profile.configure(form.initial)
    return readiness(profile.configuration())


def _versions(profile: PromptProfile | None) -> list[Any]:
    return [*profile.versions.select_related("author")[:SHOWN_VERSIONS]] if profile else []


def _starters(request: HttpRequest) -> list[dict[str, Any]]:
    """What a new profile can start from, by kind, each with its languages."""
    chosen = (request.GET.get("start"), request.GET.get("language"))
    kinds: dict[str, dict[str, Any]] = {}
    for (kind, language), starter in starters().items():
        entry = kinds.setdefault(kind, {"name": starter.name, "about": starter.about, "languages": []})
        there = f"?start={kind}&language={language}"
        entry["languages"].append((there, language, LANGUAGES[language], chosen == (kind, language)))
    return [*kinds.values()]
