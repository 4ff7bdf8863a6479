"""The pages and health checks of the calls application."""

from django.contrib.auth.views import LoginView, LogoutView
from django.urls import path
from django.views.generic import RedirectView

from calls.pages import calls, health

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="call-list"), name="home"),
    path("calls/", calls.call_list, name="call-list"),
    path("calls/<uuid:id>/", calls.call_detail, name="call-detail"),
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    # Without a slash at the end, as probes and load balancers expect them.
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
]
