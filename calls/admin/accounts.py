"""Django admin: accounts with cloud providers. A key goes in and never comes out."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from calls.admin.account_form import ProviderAccountForm
from calls.admin.turntaking import OneAtATimeAdmin
from calls.models import ProviderAccount
from calls.models.sealing import Unreadable


@admin.register(ProviderAccount)
class ProviderAccountAdmin(OneAtATimeAdmin):
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

    @method_decorator(sensitive_post_parameters("new_key"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show and save an account; a report of an error in here leaves the key out."""
        return super().changeform_view(request, *args, **kwargs)

    @admin.display(description="key")
    def key_state(self, account: ProviderAccount) -> str:
        """Return whether the account has a key, and one that can be used; never the key."""
        try:
            return "set" if account.key else "not set"
        except Unreadable:
            return "cannot be read: enter it again"
