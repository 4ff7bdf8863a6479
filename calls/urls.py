"""The pages and health checks of the calls application."""

from django.contrib.auth.views import LogoutView
from django.urls import path, register_converter

from calls.gateway import directing
from calls.gateway.pbx import views as pbx
from calls.pages import accounts, calls, health, live, profiles, trying
from calls.pages import pbx as pbx_pages
from calls.pages.addresses import CallId

register_converter(CallId, "call_id")

urlpatterns = [
    path("", accounts.home, name="home"),
    path("calls/", calls.call_list, name="call-list"),
    path("calls/<call_id:id>/", calls.call_detail, name="call-detail"),
    path("profiles/", profiles.profile_list, name="profile-list"),
    path("profiles/<slug:slug>/", profiles.says, name="profile-says"),
    path("profiles/<slug:slug>/versions/", profiles.versions, name="profile-versions"),
    path("profiles/<slug:slug>/results/", profiles.calls_went, name="profile-results"),
    path("profiles/<slug:slug>/connect/", profiles.connect, name="profile-connect"),
    path("calls/<call_id:id>/live/", live.live, name="call-live"),
    path("calls/<call_id:id>/command/", directing.command, name="call-command"),
    path("try/", trying.try_out, name="try"),
    path("try/sentence.wav", trying.sentence, name="try-sentence"),
    path("login/", accounts.LoginView.as_view(), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("pbx/<int:pk>/", pbx_pages.connect, name="pbx-connect"),
    path("pbx/<int:pk>/first-call/", pbx_pages.watch, name="pbx-watch"),
    # Without a slash at the end, as probes and load balancers expect them.
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    # What RustPBX asks and tells.
    path("rustpbx/ivr", pbx.step, name="ivr"),
    path("rustpbx/ivr/start", pbx.notice),
    path("rustpbx/ivr/end", pbx.notice),
    path("rustpbx/ivr/fail", pbx.failed),
    path("rustpbx/webhook", pbx.webhook, name="rustpbx-webhook"),
    path("rustpbx/say/<str:name>.wav", pbx.say, name="rustpbx-say"),
]
