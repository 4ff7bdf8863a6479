"""Django admin: accounts with cloud providers. A key goes in and never comes out."""

from django.contrib import admin

from calls.admin.forms import ProviderAccountForm
from calls.models import ProviderAccount


@admin.register(ProviderAccount)
class ProviderAccountAdmin(admin.ModelAdmin):
    """Provider accounts: the keys that calls use."""

    form = ProviderAccountForm
    list_display = ["provider", "label", "key_state", "is_enabled", "updated_at"]
    list_filter = ["is_enabled"]
    readonly_fields = ["key_state", "created_at", "updated_at"]
    fieldsets = [
        (None, {"fields": ["provider", "label", "is_enabled"]}),
        ("How it is reached", {"fields": ["base_url", "key_state", "new_key", "forget_key"]}),
        ("History", {"fields": ["created_at", "updated_at"]}),
    ]

    @admin.display(description="key")
    def key_state(self, account: ProviderAccount) -> str:
        """Return whether the account has a key; never the key."""
        return "set" if account.has_key else "not set"
