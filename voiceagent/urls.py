"""The project's URLs: Django admin and the calls application."""

from django.contrib import admin
from django.contrib.auth.views import LogoutView
from django.urls import include, path

from calls.pages import accounts

urlpatterns = [
    # In front of the admin's own: there is one login.
    path("admin/login/", accounts.admin_login),
    path("admin/logout/", LogoutView.as_view()),
    path("admin/", admin.site.urls),
    path("", include("calls.urls")),
]
