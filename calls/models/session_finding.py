"""Finding calls: the questions that pages, commands and sweeps ask, by name."""

from datetime import date, datetime, time, timedelta
from typing import Any, Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from . import search
from .facts import CallStatus
from .node import Node
from .numbers import normalised
from .query import parse
from .storable import storable_text

HAS_ERRORS = Q(error_count__gt=0) | Q(status=CallStatus.FAILED)  # a part of it, or all of it, failed
ABANDONED_AFTER = timedelta(hours=24)  # no call may last longer


class FindingCalls(models.QuerySet[Any]):
    """Named queries."""

    def real(self) -> Self:
        """Return the calls of callers: without those by which somebody tried the agent out."""
        return self.filter(is_test=False)

    def active(self) -> Self:
        """Return the calls going on now."""
        return self.filter(status=CallStatus.ACTIVE)

    def orphaned(self) -> Self:
        """Return the active calls whose node is gone; of those without a node, what no call outlasts."""
        abandoned = Q(node=None, started_at__lt=Now() - ABANDONED_AFTER)
        return self.active().filter(Q(node__in=Node.objects.gone()) | abandoned)

    def with_errors(self) -> Self:
        """Return the calls in which something failed, or that failed as a whole."""
        return self.filter(HAS_ERRORS)

    def expired(self) -> Self:
        """Return the calls that are not to be kept any longer."""
        return self.filter(expires_at__lte=Now())

    def of_caller(self, caller: str) -> Self:
        """Return the calls of one caller, however the number is written; none for ""."""
        key = normalised(storable_text(caller))
        return self.filter(caller_normalised=key) if key else self.none()

    def for_analyst(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """Return the calls `user` may see: all with the permission to view calls, else none."""
        allowed = getattr(user, "has_perm", lambda _: False)("calls.view_callsession")
        return self.all() if allowed else self.none()

    def with_id(self, beginning: str) -> Self:
        """Return the calls whose id begins so, with or without its hyphens; none for ""."""
        return self.filter(search.id_begins(beginning))

    def search(self, text: str) -> Self:
        """Return the calls that `text` finds, as `calls.models.query` reads it; all of them for blank text.

        It has to be in one final turn, or in room, caller and callee together.
        """
        text = storable_text(text)
        return self.filter(search.found(parse(text))) if text.strip() else self.all()

    def started_between(self, from_date: date | None, to_date: date | None) -> Self:
        """Return the calls that started on these days of the time zone, both included; None: no bound."""
        calls = self.all()
        if from_date:
            calls = calls.filter(started_at__gte=_midnight(from_date))
        if to_date:
            calls = calls.filter(started_at__lt=_midnight(to_date + timedelta(days=1)))
        return calls


def _midnight(day: date) -> datetime:
    """Return the start of `day` in the current time zone."""
    return timezone.make_aware(datetime.combine(day, time.min))
