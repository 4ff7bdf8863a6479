"""Django admin: prompt profiles. What happened in calls is on the product's own pages."""

from django.contrib import admin

from calls.admin.forms import PromptProfileForm
from calls.models import PromptProfile

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
    readonly_fields = ["created_at", "updated_at"]
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
        ("History", {"fields": ["created_at", "updated_at"]}),
    ]
