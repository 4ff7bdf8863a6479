"""The project's URLs: Django admin and the calls application."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/", admin.site.urls),
    path("", include("calls.urls")),
]
