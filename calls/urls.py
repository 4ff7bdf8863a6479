"""The pages and health checks of the calls application."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.generic import RedirectView

from calls import health, views

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="call-list"), name="home"),
    path("calls/", views.call_list, name="call-list"),
    path("calls/<uuid:id>/", views.call_detail, name="call-detail"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    # Without a slash at the end, as probes and load balancers expect them.
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
