"""Django admin: PBXes. Their tokens go in and never come out; ours is made on the page that connects them."""

from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.http.request import validate_host
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.debug import sensitive_post_parameters

from calls.models import Destination, Pbx, PbxRoute

TOKENS = {"api_token": "REST API", "rwi_token": "RWI"}
TOKEN_FIELDS = [field for name in TOKENS for field in (f"{name}_state", f"new_{name}", f"forget_{name}")]


def _token_field(what: str) -> forms.CharField:
    return forms.CharField(
        label=f"new {what} token",
        required=False,
        strip=True,
        max_length=1000,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text="It is stored encrypted. Leave empty to keep the one that is set.",
    )


class PbxForm(forms.ModelForm):
    """A PBX. The form takes tokens and never shows those there are."""

    new_api_token = _token_field(TOKENS["api_token"])
    forget_api_token = forms.BooleanField(required=False, label="forget it")
    new_rwi_token = _token_field(TOKENS["rwi_token"])
    forget_rwi_token = forms.BooleanField(required=False, label="forget it")

    class Meta:
        model = Pbx
        fields = "__all__"  # noqa: DJ007  the admin's fieldsets say which
        widgets = {"overflow_text": forms.Textarea(attrs={"rows": 2, "cols": 80})}

    def clean_agent_url(self) -> str:
        """Refuse a name that this server does not answer to: the PBX's questions would end in an error."""
        url: str = self.cleaned_data["agent_url"].rstrip("/")
        host = urlsplit(url).hostname or ""
        if not validate_host(f"[{host}]" if ":" in host else host, settings.ALLOWED_HOSTS):
            raise forms.ValidationError(
                f"This server does not answer to {host}: add it to the setting ALLOWED_HOSTS and restart."
            )
        return url

    def clean_console_url(self) -> str:
        """Leave out a slash at the end."""
        url: str = self.cleaned_data["console_url"]
        return url.rstrip("/")

    def save(self, commit: bool = True) -> Pbx:
        """Save the PBX, with the new tokens if there are any."""
        for name in TOKENS:
            if self.cleaned_data[f"forget_{name}"]:
                setattr(self.instance, name, "")
            if token := self.cleaned_data[f"new_{name}"]:
                setattr(self.instance, name, token)
        pbx: Pbx = super().save(commit)
        return pbx


class RouteInline(admin.TabularInline):
    """Which profile answers; without a match the default one."""

    model = PbxRoute
    extra = 0


class DestinationInline(admin.TabularInline):
    """Where calls can be handed on to."""

    model = Destination
    extra = 0


@admin.register(Pbx)
class PbxAdmin(admin.ModelAdmin):
    """PBXes: the RustPBXes that send calls here."""

    form = PbxForm
    inlines = [RouteInline, DestinationInline]
    list_display = ["name", "kind", "agent_url", "console_url", "connect"]
    readonly_fields = ["connect", "api_token_state", "rwi_token_state", "created_at", "updated_at"]
    fieldsets = [
        (None, {"fields": ["name", "kind", "agent_url", "connect"]}),
        ("What can be done there", {"fields": ["console_url", *TOKEN_FIELDS]}),
        ("Audio", {"fields": ["sample_rate", "timeout_ms", "return_target", "kept_headers"]}),
        ("When we cannot answer", {"fields": ["overflow_target", "overflow_text"]}),
        ("History", {"fields": ["created_at", "updated_at"]}),
    ]

    @method_decorator(sensitive_post_parameters("new_api_token", "new_rwi_token"))
    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show and save a PBX; a report of an error in here leaves the tokens out."""
        return super().changeform_view(request, *args, **kwargs)

    @admin.display(description="connection")
    def connect(self, pbx: Pbx) -> str:
        """Return the way to the page with its configuration files and the test."""
        if not pbx.pk:
            return "after it is saved"
        return format_html(
            '<a class="button" href="{}">Connect and test</a>', reverse("pbx-connect", args=[pbx.pk])
        )

    @admin.display(description="REST API token")
    def api_token_state(self, pbx: Pbx) -> str:
        """Return whether there is one; never the token."""
        return "set" if pbx.sealed_api_token else "not set"

    @admin.display(description="RWI token")
    def rwi_token_state(self, pbx: Pbx) -> str:
        """Return whether there is one; never the token."""
        return "set" if pbx.sealed_rwi_token else "not set"
