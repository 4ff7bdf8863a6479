"""The project's URLs: Django admin and the calls application."""

from inspect import unwrap

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import include, path
from django.views import defaults

from calls.pages import accounts


def nowhere(request: HttpRequest, thing: str) -> HttpResponse:
    """There is no such page."""
    raise Http404


urlpatterns = [
    # In front of the admin's own: there is one login.
    path("admin/login/", accounts.admin_login),
    path("admin/logout/", LogoutView.as_view()),
    # Django's way from the admin to an object's own page: nothing that is in the admin has one.
    path("admin/r/<path:thing>", nowhere),
    path("admin/", admin.site.urls),
    path("", include("calls.urls")),
]

# Django's own pages for errors, without their look at the form's token: a form that cannot be read would be
# read again, and the 400 become a 500.
_error_pages = (
    defaults.bad_request,
    defaults.permission_denied,
    defaults.page_not_found,
    defaults.server_error,
)
handler400, handler403, handler404, handler500 = (unwrap(page) for page in _error_pages)
