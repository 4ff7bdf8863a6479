"""Coming in: the first page, and the one place to log in, for the pages and for the admin."""

from typing import Any

from django.conf import settings
from django.contrib import admin
from django.contrib.auth import get_user_model, views
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache


@never_cache
def home(request: HttpRequest) -> HttpResponse:
    """Lead to the calls, or to the admin those who may only see that; strangers are greeted first."""
    if not request.user.is_authenticated:
        return redirect("login")
    if admin.site.has_permission(request) and not request.user.has_perm("calls.view_callsession"):
        return redirect("admin:index")
    return redirect("call-list")


class LoginView(views.LoginView):
    """Greet, and log in. A server on a laptop also says where its first user is."""

    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add whether a page was asked for, and what the person at a laptop needs to know."""
        laptop = not settings.PRODUCTION
        return super().get_context_data(
            is_sent_here=self.get_redirect_url() not in ("", "/"),
            is_laptop=laptop,
            is_without_users=laptop and not get_user_model().objects.exists(),
            **kwargs,
        )


def locked_out(request: Any, _response: HttpResponse | None, _credentials: Any) -> HttpResponse:
    """Return the login page that says why nobody can log in from this address for a while."""
    wait = settings.AXES_COOLOFF_TIME
    context = {"locked_minutes": int(wait.total_seconds() // 60), "address": request.axes_ip_address}
    response = render(request, "registration/login.html", context, status=429)
    response["Retry-After"] = int(wait.total_seconds())
    return response


@never_cache
def admin_login(request: HttpRequest) -> HttpResponse:
    """Send to the product's login page; refuse those who are logged in and may not enter the admin."""
    if request.user.is_authenticated and not admin.site.has_permission(request):
        raise PermissionDenied
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
