"""Trying a profile out before it is saved: the form's values, kept until the browser connects."""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone

from .profile import PromptProfile
from .tokens import hashed

VALID_FOR = timedelta(minutes=10)
TOKEN_BYTES = 24


class TrialTicketQuerySet(models.QuerySet["TrialTicket"]):
    """Giving out tickets and taking them back."""

    def issue(self, user_id: int, profile: PromptProfile, configuration: Mapping[str, Any]) -> str:
        """Keep the configuration for one call of this user within ten minutes; return the ticket.

        The profile may be one that is not stored yet.
        """
        self.filter(expires_at__lte=Now()).delete()
        ticket = secrets.token_urlsafe(TOKEN_BYTES)
        self.create(
            digest=hashed(ticket),
            user_id=user_id,
            profile_id=profile.pk,
            slug=profile.slug,
            name=profile.name,
            configuration=configuration,
            expires_at=timezone.now() + VALID_FOR,
        )
        return ticket

    def redeem(self, ticket: str, user_id: int) -> "TrialTicket | None":
        """Return what the ticket stands for; None if it is not this user's, too old, or used before."""
        valid = self.filter(digest=hashed(ticket), user_id=user_id, expires_at__gt=Now())
        found = valid.first()
        return found if found is not None and valid.delete()[0] else None


class TrialTicket(models.Model):
    """Values of a profile that somebody is about to try out. The ticket itself is not stored."""

    digest = models.CharField(max_length=64, unique=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    profile = models.ForeignKey(PromptProfile, null=True, on_delete=models.CASCADE, related_name="+")
    slug = models.CharField(max_length=80, blank=True)
    name = models.CharField(max_length=80, blank=True)
    configuration = models.JSONField()
    expires_at = models.DateTimeField()

    objects = TrialTicketQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.name} as tried by {self.user_id}"
