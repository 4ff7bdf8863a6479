"""What the pages and the admin say about the profiles as a whole."""

from collections.abc import Iterable
from typing import Any

from django import template
from django.contrib.auth.models import AnonymousUser
from django.template import Context
from django.urls import reverse

from calls.models import PromptProfile
from calls.profiles import succession

register = template.Library()


@register.inclusion_tag("_profiles_warning.html", takes_context=True)
def profiles_warning(context: Context) -> dict[str, Any]:
    """Warn those whom it concerns when calls are refused, as no profile is published."""
    user = context.get("user") or AnonymousUser()
    concerns = user.has_perm("calls.view_callsession") or user.has_perm("calls.view_promptprofile")
    return {
        "is_refusing": concerns and not PromptProfile.objects.usable().exists(),
        "may_publish": user.is_staff and user.has_perm("calls.change_promptprofile"),
    }


@register.inclusion_tag("admin/calls/promptprofile/_consequence.html")
def consequence_of_deleting(profiles: Iterable[PromptProfile] | PromptProfile) -> dict[str, str]:
    """Say who answers calls once these profiles are deleted, if that changes."""
    some = [profiles] if isinstance(profiles, PromptProfile) else profiles
    return {"consequence": succession.after_leaving(some)}


@register.simple_tag
def try_values(profile: PromptProfile | None) -> str:
    """Return where the values of the profile's form are posted to be tried out."""
    address = reverse("admin:calls_promptprofile_try")
    return f"{address}?profile={profile.pk}" if profile and profile.pk else address
