"""Django admin: prompt profiles to edit; calls, turns and events to read."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.timezone import localtime

from calls.admin.forms import PromptProfileForm
from calls.models import CallEvent, CallSession, CallSessionQuerySet, PromptProfile, Turn

admin.site.site_header = "Voice agent"
admin.site.site_title = "Voice agent"
admin.site.index_title = "Administration"


@admin.register(PromptProfile)
class PromptProfileAdmin(admin.ModelAdmin):
    """Prompt profiles: how the agent behaves on a call."""

    form = PromptProfileForm
    list_display = ["name", "slug", "is_published", "is_default", "language", "updated_at"]
    list_filter = ["is_published", "language"]
    search_fields = ["name", "slug", "system_prompt", "greeting"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["current_version", "created_at", "updated_at"]
    save_on_top = True
    fieldsets = [
        (None, {"fields": ["name", "slug", "is_published", "is_default"]}),
        ("What it says", {"fields": ["system_prompt", "greeting", "apology", "farewell", "language"]}),
        (
            "Turn-taking and limits",
            {
                "fields": [
                    "allow_interruptions",
                    "end_of_turn",
                    "end_of_turn_silence_s",
                    "max_duration_s",
                ]
            },
        ),
        (
            "Providers",
            {
                "fields": [
                    ("stt_provider", "stt_settings"),
                    ("llm_provider", "llm_settings"),
                    ("tts_provider", "tts_settings"),
                ]
            },
        ),
        ("What the client may change", {"fields": ["prompt_policy", "use_client_settings"]}),
        ("History", {"fields": ["current_version", "created_at", "updated_at"]}),
    ]

    def save_model(self, request: HttpRequest, obj: PromptProfile, form: Any, change: bool) -> None:
        """Save the profile and, if calls may use it, publish what was saved."""
        super().save_model(request, obj, form, change)
        if obj.is_published:
            assert isinstance(request.user, User)  # noqa: S101  the admin has no other
            obj.publish(author=request.user)

    @admin.display(description="version")
    def current_version(self, profile: PromptProfile) -> str:
        """Return what calls use now: the version's number, when it was published and by whom."""
        version = profile.versions.select_related("author").first() if profile.pk else None
        if version is None:
            return "none yet"
        by = f" by {version.author}" if version.author else ""
        return f"{version.number}, published {date_format(localtime(version.published_at), 'j M Y, H:i')}{by}"


class AppendOnly:
    """What the server wrote can be read, but not added to, changed or deleted, by anyone."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: only a call writes it."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: it is a record."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return False: it is a record."""
        return False


class TurnInline(AppendOnly, admin.TabularInline):
    """A call's transcript."""

    model = Turn
    fields = [
        "index",
        "speaker",
        "text",
        "start_ms",
        "end_ms",
        "interrupted",
        "language",
        "final",
        "total_ms",
    ]
    extra = 0


class CallEventInline(AppendOnly, admin.TabularInline):
    """A call's events."""

    model = CallEvent
    fields = ["ms", "kind", "severity", "provider", "message", "turn", "detail"]
    extra = 0


@admin.register(CallSession)
class CallSessionAdmin(AppendOnly, admin.ModelAdmin):
    """Calls with their transcripts and events."""

    list_display = [
        "started_at",
        "caller",
        "callee",
        "profile",
        "status",
        "end_reason",
        "duration",
        "turn_count",
        "median_latency_ms",
        "error_count",
    ]
    list_filter = ["status", "profile", "end_reason", "client_generation", "node__name"]
    list_select_related = ["profile"]
    search_fields = ["room_id", "caller", "callee"]
    search_help_text = "In what was said, the room, the caller and the callee."
    date_hierarchy = "started_at"
    inlines = [TurnInline, CallEventInline]

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[CallSession], search_term: str
    ) -> tuple[QuerySet[CallSession], bool]:
        """Search as the analysts' pages do, transcripts included."""
        assert isinstance(queryset, CallSessionQuerySet)  # noqa: S101  tells the type checker
        return queryset.search(search_term), False


@admin.register(Turn)
class TurnAdmin(AppendOnly, admin.ModelAdmin):
    """Everything said, over all calls."""

    list_display = ["session", "index", "speaker", "text", "start_ms", "end_ms", "interrupted", "language"]
    list_filter = ["speaker", "interrupted", "language"]
    list_select_related = ["session"]
    search_fields = ["text"]
    date_hierarchy = "session__started_at"
    ordering = ["-session__started_at", "session_id", "index"]


@admin.register(CallEvent)
class CallEventAdmin(AppendOnly, admin.ModelAdmin):
    """Every event, over all calls."""

    list_display = ["session", "ms", "kind", "severity", "provider", "message"]
    list_filter = ["kind", "severity"]
    list_select_related = ["session"]
    search_fields = ["message", "detail"]
    date_hierarchy = "session__started_at"
    ordering = ["-session__started_at", "session_id", "ms"]
