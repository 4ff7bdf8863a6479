"""The errors of a profile's recent calls, for its page in the admin."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django import template
from django.urls import reverse
from django.utils import timezone

from calls.models import CallSession, PromptProfile

register = template.Library()

DAYS = 7


@register.inclusion_tag("calls/_recent_errors.html")
def recent_errors(profile: PromptProfile) -> dict[str, Any]:
    """Show how many of the profile's calls of the last days had errors, with a link to their list."""
    since = timezone.localdate() - timedelta(days=DAYS - 1)
    calls = CallSession.objects.real().filter(profile=profile).started_between(since, None)
    there = {"profile": profile.slug, "from_date": since.isoformat()}
    return {
        "days": DAYS,
        "calls": calls.count(),
        "failed": calls.with_errors().count(),
        "calls_url": f"{reverse('call-list')}?{urlencode(there)}",
        "failed_url": f"{reverse('call-list')}?{urlencode(there | {'has_errors': 'on'})}",
    }
