"""Who may see which pages."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpResponse
from django.views.decorators.http import require_safe


def analyst_page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Show the page by GET to those who may view calls: others get the login page, or 403 when logged in."""
    allowed = permission_required("calls.view_callsession", raise_exception=True)
    return require_safe(login_required(allowed(view)))
