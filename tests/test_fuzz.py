"""Every page, asked in ways nobody foresaw: whatever comes, no exception and no 500.

A short look; `python -m benchmarks fuzz` asks a real server 20,000 times.
"""

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import URLPattern, get_resolver
from hypothesis import HealthCheck, given
from hypothesis import settings as how

from calls.models import CallSession
from tests.conftest import group_of, publish_profile
from tests.fuzz.addresses import addresses
from tests.fuzz.requests import CSRF, PERSONAS, requests

pytestmark = pytest.mark.django_db

SHORT = how(
    max_examples=300,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
KNOWN = ["1", "2", "3"]


@pytest.fixture
def browsers(make_call):
    """A client of each persona, on a database with a call and a profile."""
    make_call(
        said=[("agent", "Hello"), ("caller", "Hi")], profile=publish_profile("default", is_default=True)
    )
    groups = {"admin": "Admins", "analyst": "Analysts"}
    found = {}
    for name in PERSONAS:
        user = User.objects.create_user(name, is_staff=name == "admin", is_superuser=name == "superuser")
        if name in groups:
            user.groups.add(group_of(groups[name]))
        found[name] = Client(enforce_csrf_checks=True)
        found[name].cookies["csrftoken"] = CSRF
        found[name].force_login(user)
    del found["nobody"].cookies[settings.SESSION_COOKIE_NAME]
    return found


def test_no_request_is_an_exception(browsers):
    @SHORT
    @given(requests(addresses(), [*KNOWN, str(CallSession.objects.get().pk)]))
    def ask(request):
        headers = {f"HTTP_{name.upper().replace('-', '_')}": value for name, value in request.headers}
        content_type = headers.pop("HTTP_CONTENT_TYPE", "application/octet-stream")
        headers.pop("HTTP_COOKIE", None)  # the client's own
        response = browsers[request.persona].generic(
            request.method, request.target, request.body, content_type, **headers
        )
        assert response.status_code < 500 or request.target.startswith("/readyz")

    ask()


def test_the_walk_finds_every_pattern():
    def count(patterns):
        return sum(1 if isinstance(each, URLPattern) else count(each.url_patterns) for each in patterns)

    found = addresses()
    assert len(found) == count(get_resolver().url_patterns)
    assert {"/calls/{id}/", "/readyz", "/admin/calls/promptprofile/{object_id}/change/"} <= {
        address.template for address in found
    }
