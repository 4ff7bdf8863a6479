"""Who may see which pages."""

from collections.abc import Callable

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpResponse
from django.views.decorators.http import require_safe

View = Callable[..., HttpResponse]


def page_for(*permissions: str) -> Callable[[View], View]:
    """Show a page by GET to those who have these permissions; others get the login page, or then 403."""
    allowed = permission_required(permissions, raise_exception=True)
    return lambda view: require_safe(login_required(allowed(view)))


analyst_page = page_for("calls.view_callsession")
profile_page = page_for("calls.view_promptprofile")
profile_calls_page = page_for("calls.view_promptprofile", "calls.view_callsession")
