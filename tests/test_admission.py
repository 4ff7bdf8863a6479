"""Who may stream calls."""

import ipaddress

import pytest
from django.urls import reverse

from calls.gateway import admission, proxies
from calls.process import State, this_process

TOKEN = "a-long-random-token"


def scope(client="127.0.0.1", query="", **headers):
    return {
        "client": (client, 5000),
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }


def test_this_machine_needs_nothing():
    assert admission.refusal(scope()) is None
    assert admission.refusal(scope("::1")) is None


@pytest.mark.parametrize("header", ["x_forwarded_for", "x_forwarded_proto", "forwarded", "x_real_ip", "via"])
def test_a_proxy_on_this_machine_is_not_this_machine(header):
    assert "STREAM_TOKENS" in admission.refusal(scope(**{header: "203.0.113.9"})).reason


def test_everyone_else_needs_a_token(settings):
    settings.STREAM_TOKENS = ["another", TOKEN]
    assert "got none" in admission.refusal(scope("203.0.113.9")).reason
    assert admission.refusal(scope("203.0.113.9", f"profile=x&token={TOKEN}")) is None
    assert admission.refusal(scope("203.0.113.9", authorization=f"Bearer {TOKEN}")) is None
    refusal = admission.refusal(scope("203.0.113.9", "token=wrong-token"))
    assert refusal.reason == "expected one of STREAM_TOKENS, got another token"


def test_a_token_of_odd_characters_is_compared_not_raised(settings):
    settings.STREAM_TOKENS = [TOKEN]
    assert admission.refusal(scope("203.0.113.9", "token=%C3%BC%00%F0")) is not None


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8765", True),
        ("http://127.0.0.1:3000", True),
        ("https://evil.example", False),
        ("null", False),
        ("http://localhost.evil.example", False),
        ("file://", False),
    ],
)
def test_a_web_page_elsewhere_cannot_reach_a_local_agent(settings, origin, allowed):
    settings.ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
    assert (admission.refusal(scope(origin=origin)) is None) is allowed


def test_the_address_behind_trusted_proxies(settings):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    chain = "198.51.100.1, 203.0.113.9, 10.0.0.2"
    assert proxies.client_address(scope("10.0.0.1", x_forwarded_for=chain)) == "203.0.113.9"
    assert proxies.client_address(scope("192.0.2.1", x_forwarded_for=chain)) == "192.0.2.1"
    assert proxies.client_address(scope("10.0.0.1")) == "10.0.0.1"
    assert proxies.client_address({"client": None, "headers": []}) == ""


@pytest.mark.django_db
@pytest.mark.parametrize(("peer", "status"), [("10.0.0.1", 200), ("203.0.113.9", 301), ("", 301)])
def test_only_a_trusted_proxy_is_believed_that_a_page_is_asked_for_by_https(settings, client, peer, status):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True
    response = client.get(reverse("login"), REMOTE_ADDR=peer, headers={"X-Forwarded-Proto": "https"})
    assert response.status_code == status


def test_a_process_that_is_about_to_end_takes_no_calls():
    this_process.move(State.DRAINING)
    assert "about to end" in admission.refusal(scope()).reason
