"""Who may stream calls."""

import asyncio
import ipaddress
from http import HTTPStatus

import pytest
from channels.testing import WebsocketCommunicator
from django.urls import reverse

from calls.consumers import RustPBXConsumer
from calls.gateway import admission, capacity, proxies, refusing, registry
from calls.models import PromptProfile
from calls.process import State, this_process
from tests.conftest import publish_profile

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


# --- An IPv4 peer of a socket that listens on :: ----------------------------------------------------------


@pytest.mark.parametrize("network", ["10.0.0.0/8", "::ffff:10.0.0.0/104"])
def test_an_ipv4_peer_of_an_ipv6_socket_is_that_address(settings, network):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network(network)]
    assert proxies.client_address(scope("::ffff:203.0.113.9")) == "203.0.113.9"
    for proxy in ("10.0.0.1", "::ffff:10.0.0.1"):
        hops = scope(proxy, x_forwarded_for="::ffff:198.51.100.1, ::ffff:203.0.113.9, ::ffff:10.0.0.2")
        assert proxies.client_address(hops) == "203.0.113.9"
    assert proxies.client_address(scope("2001:db8::7")) == "2001:db8::7"


def test_this_machine_by_ipv4_over_an_ipv6_socket_is_this_machine():
    assert admission.refusal(scope("::ffff:127.0.0.1")) is None
    assert admission.refusal(scope("::ffff:203.0.113.9")).status == HTTPStatus.FORBIDDEN


@pytest.mark.django_db
@pytest.mark.parametrize(("peer", "status"), [("::ffff:10.0.0.1", 200), ("::ffff:203.0.113.9", 301)])
def test_pages_see_that_address_too(settings, client, peer, status):
    settings.TRUSTED_PROXIES = [ipaddress.ip_network("10.0.0.0/8")]
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    settings.SECURE_SSL_REDIRECT = True
    response = client.get(reverse("login"), REMOTE_ADDR=peer, headers={"X-Forwarded-Proto": "https"})
    assert response.status_code == status
    assert response.wsgi_request.META["REMOTE_ADDR"] == peer.removeprefix("::ffff:")


# --- How many, and when -----------------------------------------------------------------------------------


def test_a_process_that_is_about_to_end_takes_no_calls():
    this_process.move(State.DRAINING)
    refusal = admission.refusal(scope())
    assert refusal.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert "about to end" in refusal.reason
    assert admission.refusal(scope("203.0.113.9")).status == HTTPStatus.FORBIDDEN, "strangers learn nothing"


def test_a_call_too_many_is_refused():
    this_process.load.calls, this_process.load.most = 2, 3
    assert admission.refusal(scope()) is None
    this_process.load.most = 2
    refusal = admission.refusal(scope())
    assert refusal.status == HTTPStatus.SERVICE_UNAVAILABLE
    assert refusal.reason == "expected fewer calls at once: this server takes 2 (MAX_CALLS)"
    assert admission.refusal(scope("203.0.113.9")).status == HTTPStatus.FORBIDDEN, "strangers learn nothing"


@pytest.mark.django_db
def test_without_a_setting_it_depends_on_who_speaks_and_on_the_cores(settings, monkeypatch):
    monkeypatch.setattr(capacity, "cores", lambda: 2)
    cloud = {"stt_provider": "cartesia", "llm_provider": "openai", "tts_provider": "cartesia"}
    publish_profile("cloud", system_prompt="", **cloud)
    assert capacity.look().most == 75
    mixed = publish_profile("mixed", system_prompt="", **{**cloud, "llm_provider": "auto"})
    assert capacity.look().most == 16
    PromptProfile.objects.filter(pk=mixed.pk).update(llm_provider="openai")
    assert capacity.look().most == 16, "what is not published yet does not count"
    mixed.publish()
    assert capacity.look().most == 75
    embedded = publish_profile("embedded", system_prompt="")
    PromptProfile.objects.filter(pk=embedded.pk).update(is_published=False)
    assert capacity.look().most == 75
    PromptProfile.objects.filter(pk=embedded.pk).update(is_published=True)
    assert capacity.look().most == 16
    monkeypatch.setattr(capacity, "cores", lambda: 32)
    assert capacity.look().most == 75
    settings.MAX_CALLS = 5
    assert capacity.look().most == 5


@pytest.mark.parametrize("extensions", [{}, {refusing.ANSWER: {}}])
async def test_a_call_too_many_is_told_so_before_the_upgrade(extensions):
    """With the status by servers that can; those that cannot say 403."""
    this_process.load.calls = this_process.load.most = 2
    client = WebsocketCommunicator(RustPBXConsumer.as_asgi(), "/ws/rustpbx")
    client.scope |= {"client": ["127.0.0.1", 4711], "extensions": extensions}
    await client.send_input({"type": "websocket.connect"})
    answer = await client.receive_output()
    if extensions:
        assert (answer["type"], answer["status"]) == ("websocket.http.response.start", 503)
        body = await client.receive_output()
        assert body["body"] == b"expected fewer calls at once: this server takes 2 (MAX_CALLS)\n"
        assert dict(answer["headers"])[b"content-length"] == b"%d" % len(body["body"])
    else:
        assert answer["type"] == "websocket.close"
    await client.wait()
    assert this_process.load.refused == 1
    assert this_process.load.refused_at is not None


async def test_a_call_counts_from_the_moment_it_is_let_in():
    """While its upgrade is under way others must not take its place."""
    this_process.load.most = 1
    upgrading, go_on = asyncio.Event(), asyncio.Event()
    answers = []

    async def slow_server(message):
        answers.append(message["type"])
        upgrading.set()
        await go_on.wait()
        raise ConnectionError("the client went away")

    async def connect():
        return {"type": "websocket.connect"}

    where = {**scope(), "type": "websocket", "path": "/ws/rustpbx"}
    first = asyncio.create_task(RustPBXConsumer.as_asgi()(where, connect, slow_server))
    await upgrading.wait()
    assert answers == ["websocket.accept"]
    assert admission.refusal(scope()).status == HTTPStatus.SERVICE_UNAVAILABLE
    (connection,) = registry.live
    go_on.set()
    with pytest.raises(ConnectionError):
        await first
    assert registry.live == set()
    assert this_process.load.calls == 0
    assert connection.life.closed.is_set(), "nobody waits for it at the server's end"


def test_a_flood_of_refusals_is_a_few_lines_with_their_number(caplog, monkeypatch):
    now = 0.0
    monkeypatch.setattr(refusing.time, "monotonic", lambda: now)
    log = refusing.Log()
    for _ in range(1000):
        log.add("no room", "203.0.113.9")
    assert len(caplog.records) == refusing.LINES_AT_ONCE
    now = 1.0
    log.add("a stranger", "")
    untold = 1000 - refusing.LINES_AT_ONCE
    assert caplog.messages[-1] == f"refused a stream from ?: a stranger (and {untold} others before)"
    now = 2.0
    log.add("no room", "203.0.113.9")
    assert caplog.messages[-1] == "refused a stream from 203.0.113.9: no room"


# --- Calls that a PBX has announced -----------------------------------------------------------------------


def test_a_ticket_is_never_refused_before_the_upgrade(monkeypatch):
    """RustPBX would leave its caller in silence for good: what the ticket is worth is seen later."""
    monkeypatch.setattr(this_process, "_state", State.DRAINING)
    monkeypatch.setattr(this_process.load, "most", 0)
    assert admission.refusal(scope("203.0.113.9", "client=bridge&ticket=x")) is None
    assert admission.refusal(scope("203.0.113.9", "client=bridge&ticket=")) is not None
    assert admission.refusal(scope("203.0.113.9", "ticket=x", origin="https://evil.example")) is not None


def test_a_place_that_is_kept_is_nobody_elses(monkeypatch):
    monkeypatch.setattr(this_process.load, "most", 1)
    monkeypatch.setattr(this_process.load, "calls", 0)
    assert admission.reserve("a", 60)
    assert admission.reserve("a", 60)
    assert not admission.reserve("b", 60)
    assert admission.refusal(scope()).status == 503
    admission.release("a")
    assert admission.refusal(scope()) is None


def test_no_place_is_kept_by_a_process_that_is_about_to_end(monkeypatch):
    monkeypatch.setattr(this_process, "_state", State.DRAINING)
    assert not admission.reserve("a", 60)
