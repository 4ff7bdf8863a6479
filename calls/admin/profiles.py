"""Django admin: prompt profiles. What happened in calls is on the product's own pages."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.html import format_html

from calls.admin.exchange import ExchangeAdmin
from calls.admin.forms import BESIDES, PUBLISH, TEXTS, PromptProfileForm
from calls.admin.preview import PreviewMixin
from calls.admin.profile_pages import ProfilePages
from calls.admin.trying import TriableAdmin
from calls.admin.turntaking import OneAtATimeAdmin
from calls.models import PromptProfile
from calls.profiles import publishing
from calls.profiles.languages import name_of
from calls.profiles.readiness import errors, readiness, worst
from calls.profiles.starters import starters
from calls.providers import accounts

admin.site.site_header = "Voice agent"
admin.site.site_title = "Voice agent"
admin.site.index_title = "Administration"

PROVIDERS = "Providers"  # the group that the template shows in its own way
LEVELS = {"ready": "✓ ready", "warning": "⚠︎ ready, with a stand-in", "error": "✗ not ready"}


class InUseFilter(admin.SimpleListFilter):
    """Those in use, if nothing else is asked for."""

    title = "archived"
    parameter_name = "archived"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return what can be asked for besides."""
        return [("yes", "Archived"), ("all", "All")]

    def choices(self, changelist: Any) -> Any:
        """Call what is shown at first by its name."""
        first, *others = super().choices(changelist)
        return [{**first, "display": "In use"}, *others]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the profiles to be listed."""
        match self.value():
            case "all":
                return queryset
            case "yes":
                return queryset.exclude(archived_at=None)
            case _:
                return queryset.filter(archived_at=None)


@admin.register(PromptProfile)
class PromptProfileAdmin(ExchangeAdmin, TriableAdmin, ProfilePages, PreviewMixin, OneAtATimeAdmin):
    """Prompt profiles: how the agent behaves on a call."""

    form = PromptProfileForm
    list_display = ["name", "slug", "state", "ready", "is_default", "language_name", "updated_at"]
    list_filter = [InUseFilter, "is_published", "language"]
    search_fields = ["name", "slug", "system_prompt", "greeting"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["preview", "created_at", "updated_at"]
    fieldsets = [
        (None, {"fields": [("name", "slug"), "is_default", "confirmed"]}),
        ("What it says", {"fields": ["language", "system_prompt", *TEXTS, "preview"]}),
        (
            PROVIDERS,
            {
                "fields": [
                    ("stt_provider", "stt_settings", "stt_fallback"),
                    ("llm_provider", "llm_settings", "llm_fallback"),
                    ("tts_provider", "tts_settings", "tts_fallback"),
                    "speech_speed",
                ]
            },
        ),
        (
            "Turn-taking and limits",
            {
                "fields": [
                    "opens",
                    ("allow_interruptions", "interruption_words"),
                    "end_of_turn",
                    "end_of_turn_silence_s",
                    "end_phrases",
                    "max_duration_s",
                    "noise_suppression",
                ]
            },
        ),
        ("What the client may change", {"fields": ["prompt_policy", "use_client_settings"]}),
        ("What is kept", {"fields": ["retention_days"]}),
        ("Two versions side by side", {"fields": [("split_version", "split_percent")]}),
        ("History", {"fields": ["created_at", "updated_at"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: PromptProfile | None = None) -> Any:
        """Return the fields in their groups; who may only read is asked nothing."""
        if self.has_change_permission(request, obj):
            return self.fieldsets
        hidden = "confirmed"
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name != hidden]})
            for title, options in self.fieldsets
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """Start from one of the agents there are, if the address names it, else from nothing."""
        starter = starters().get((request.GET.get("start", ""), request.GET.get("language", "")))
        if starter is None:
            return {}
        slug = PromptProfile.objects.free_slug(starter.kind.replace("_", "-"))
        return {**starter.fields(), "slug": slug, "note": f"From “{starter.name}”"}

    # --- Saving ---------------------------------------------------------------------------------------------

    def save_model(self, request: HttpRequest, obj: PromptProfile, form: Any, change: bool) -> None:
        """Save the draft and, if that was the button, publish it."""
        super().save_model(request, obj, form, change)
        if PUBLISH in request.POST:
            self._publish(request, obj, form.cleaned_data["note"])

    def _publish(self, request: HttpRequest, profile: PromptProfile, note: str) -> None:
        """Publish the draft, and say what came of it."""
        assert isinstance(request.user, User)  # noqa: S101  the admin has no other
        before = profile.current_version
        try:
            version = publishing.publish(profile, request.user, note)
        except publishing.NotReady as refused:  # a key has gone since the form was checked
            messages.error(request, f"The draft is saved and not published. {refused}")
            return
        if version == before:
            said = f"Nothing differs from version {version.number}, which the next call uses."
        else:
            said = f"Version {version.number} is published: the next call uses it."
        messages.success(request, said)

    def construct_change_message(
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> list[dict[str, Any]]:
        """Return what the history says: the fields of the profile that were changed."""
        form.changed_data = [name for name in form.changed_data if name not in BESIDES]
        message: list[dict[str, Any]] = super().construct_change_message(request, form, formsets, add)
        return message

    def response_add(
        self, request: HttpRequest, obj: PromptProfile, post_url_continue: Any = None
    ) -> HttpResponse:
        """Stay with the profile."""
        return self.response_change(request, obj)

    def response_change(self, request: HttpRequest, obj: PromptProfile) -> HttpResponse:
        """Stay with the profile, and say what came of saving it."""
        if PUBLISH not in request.POST:
            version = obj.current_version if obj.is_published else None
            calls = f"calls go on with version {version.number}" if version else "no call uses it"
            messages.success(request, f"The draft is saved; {calls} until it is published.")
            if found := errors(readiness(obj.configuration())):
                first = f"{found[0].part}: {found[0].message}"
                more = f", and {len(found) - 1} more" if found[1:] else ""
                messages.warning(request, f"It cannot be published like this. {first}{more}.")
        return redirect(reverse("admin:calls_promptprofile_change", args=[obj.pk]))

    # --- The list -------------------------------------------------------------------------------------------

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List the profiles, with the keys as they are now."""
        accounts.refresh()
        return super().changelist_view(request, *args, **kwargs)

    @admin.display(description="state")
    def state(self, profile: PromptProfile) -> str:
        """Return which version calls use, and whether the draft differs from it."""
        version = profile.current_version
        if profile.archived_at:
            return "archived"
        if version is None:
            return "draft"
        changed = " · draft has changes" if profile.differs_from(version) else ""
        return f"version {version.number}{'' if profile.is_published else ', not in use'}{changed}"

    @admin.display(description="readiness")
    def ready(self, profile: PromptProfile) -> str:
        """Return whether the draft would work in a call, and what is wrong first."""
        findings = readiness(profile.configuration())
        level = worst(findings)
        why = "; ".join(f"{f.part}: {f.message}" for f in findings if f.level == level and level != "ready")
        return format_html('<span class="level {}" title="{}">{}</span>', level, why, LEVELS[level])

    @admin.display(description="language", ordering="language")
    def language_name(self, profile: PromptProfile) -> str:
        """Return the language's name."""
        return name_of(profile.language)
