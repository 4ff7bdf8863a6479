"""Django admin: prompt profiles. What happened in calls is on the product's own pages."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.formats import date_format
from django.utils.timezone import localtime

from calls.admin.forms import TEXTS, PromptProfileForm
from calls.admin.trying import TriableAdmin
from calls.admin.turntaking import OneAtATimeAdmin
from calls.models import PromptProfile

admin.site.site_header = "Voice agent"
admin.site.site_title = "Voice agent"
admin.site.index_title = "Administration"


@admin.register(PromptProfile)
class PromptProfileAdmin(TriableAdmin, OneAtATimeAdmin):
    """Prompt profiles: how the agent behaves on a call."""

    form = PromptProfileForm
    list_display = ["name", "slug", "is_published", "is_default", "language", "updated_at"]
    list_filter = ["is_published", "language"]
    search_fields = ["name", "slug", "system_prompt", "greeting"]
    prepopulated_fields = {"slug": ["name"]}
    readonly_fields = ["current_version", "created_at", "updated_at"]
    save_on_top = True
    fieldsets = [
        (None, {"fields": ["name", "slug", "is_published", "is_default", "confirmed"]}),
        ("What it says", {"fields": ["system_prompt", *TEXTS, "language"]}),
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

    def get_fieldsets(self, request: HttpRequest, obj: PromptProfile | None = None) -> Any:
        """Return the fields in their groups; who may only read is asked nothing."""
        if self.has_change_permission(request, obj):
            return self.fieldsets
        hidden = "confirmed"
        return [
            (title, {**options, "fields": [name for name in options["fields"] if name != hidden]})
            for title, options in self.fieldsets
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
        published = date_format(localtime(version.published_at), "DATETIME_FORMAT")
        return f"{version.number}, published {published}{by}"
