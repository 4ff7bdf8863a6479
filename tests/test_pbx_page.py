"""Connecting a PBX: its files, what works, the first call; in the admin and in a real browser."""

import asyncio
import html
import re
import threading
import tomllib
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import expect

from calls.models import CallSession, Pbx, PbxSession
from calls.pages import pbx_checks
from calls.rustpbx import configuration
from calls.rustpbx.configuration import Facts
from calls.simulator.pbx import API_TOKEN, RWI_TOKEN
from calls.simulator.pbx import Pbx as RustPbx
from tests.conftest import PASSWORD
from tests.test_browser import assert_fits, chromium  # noqa: F401  a fixture

FACTS = Facts("https://agent.example.org", "voiceagent", "ivr-token", "api-token", "rwi-token", 3)


@pytest.fixture
def pbx(db):
    return Pbx.objects.create(name="main", agent_url="http://localhost:9", overflow_text="Nobody is here.")


@pytest.fixture
def rustpbx():
    """A RustPBX in a thread of its own: the pages are not async."""
    ready, over = threading.Event(), None

    async def serve():
        nonlocal over
        over = asyncio.Event()
        async with RustPbx() as served:
            box.append(served)
            box.append(asyncio.get_running_loop())
            ready.set()
            await over.wait()

    box = []
    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(10)
    yield box[0]
    box[1].call_soon_threadsafe(over.set)
    thread.join(10)


def page_of(pbx):
    return reverse("pbx-connect", args=[pbx.pk])


# --- The files --------------------------------------------------------------------------------------------


def test_the_files_of_a_bridge_are_toml_with_all_that_is_needed():
    ivr, rest = configuration.of_bridge(FACTS)
    provider = tomllib.loads(ivr.text)["ivr"]["provider"]
    assert provider["url"] == "https://agent.example.org/rustpbx/ivr"
    assert provider["headers"] == {"Authorization": "Bearer ivr-token"}
    told = tomllib.loads(rest.text)
    (route,) = told["proxy"]["routes"]
    assert (route["app"], route["app_params"], "action" in route) == ("ivr", {"file": ivr.path}, False)
    assert list(route)[-1] == "match"  # the keys before it must stay before it
    assert told["rwi_webhook"]["url"] == "https://agent.example.org/rustpbx/webhook"
    assert told["console"]["api_tokens"][0]["token"] == "api-token"
    assert told["rwi"]["tokens"][0]["token"] == "rwi-token"
    assert (ivr.name, rest.name) == ("voiceagent.toml", "config.toml")


def test_the_file_of_the_fork_names_its_pbx():
    (file,) = configuration.of_fork(FACTS)
    url = urlsplit(tomllib.loads(file.text)["pipecat"]["server_url"])
    assert (url.scheme, url.netloc, url.path) == ("wss", "agent.example.org", "/ws/rustpbx")
    assert parse_qs(url.query)["pbx"] == ["3"]


def test_whatever_is_in_a_name_the_files_stay_toml():
    for file in configuration.of_bridge(Facts('http://a"\\n', 'x"]\n[evil]', "\u2028", "'", '"')):
        assert "evil" not in tomllib.loads(file.text)


# --- The page ---------------------------------------------------------------------------------------------


def test_tokens_are_made_and_shown_once(client, admin, pbx):
    client.force_login(admin)
    assert "Make the tokens" in client.get(page_of(pbx)).content.decode()
    made = client.post(page_of(pbx), {"action": "tokens"}).content.decode()
    pbx.refresh_from_db()
    (token,) = {*re.findall(r"Bearer ([\w-]{43})", made)}
    assert Pbx.objects.of_token(token) == pbx
    assert pbx.api_token in made
    assert pbx.rwi_token in made
    later = client.get(page_of(pbx)).content.decode()
    assert not [secret for secret in (token, pbx.api_token, pbx.rwi_token) if secret in later]
    again = client.post(page_of(pbx), {"action": "tokens"}).content.decode()
    assert pbx.api_token not in again  # the PBX has it, and nothing that one could copy stands in its place
    assert "token that you have" not in again
    assert html.escape("# [[rwi.tokens]] stays as it is") in again


def test_what_works_is_told(client, admin, pbx, rustpbx):
    client.force_login(admin)
    checks = {check.what: check for check in pbx_checks.check(pbx)}
    assert {check.verdict for check in checks.values()} == {"bad", "unknown"}
    pbx.console_url, pbx.api_token, pbx.rwi_token = rustpbx.url, API_TOKEN, RWI_TOKEN
    pbx.agent_url = rustpbx.url
    pbx.save()
    PbxSession.objects.create(pbx=pbx, session_id="s", state="ended", hung_up_by="caller")
    found = {check.what: (check.verdict, check.found) for check in pbx_checks.check(pbx)}
    assert found["Hanging up over the REST API"][0] == "good"
    assert found["Getting back callers in silence, over RWI"][0] == "good"
    assert found["It tells ends"][0] == found["Its IVR asks us"][0] == "good"
    assert "Another server" in found[f"This server at {rustpbx.url}"][1]
    assert found["Callers hear something when this server is down"][0] == "unknown"
    pbx.api_token = pbx.rwi_token = "nonsense"
    pbx.save()
    page = client.post(page_of(pbx), {"action": "test"}).content.decode()
    assert page.count("HTTP 401") == 2
    assert "nonsense" not in page


def test_the_forks_api_is_tried(pbx, rustpbx):
    pbx.kind, pbx.console_url = "fork", rustpbx.url
    checks = pbx_checks.check(pbx)
    assert [check.found for check in checks[1:]] == ["/ami/v1/lists is not there."]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"state": "bridging", "expires_at": timedelta(seconds=5)}, "about to be connected"),
        ({"state": "bridging", "expires_at": -timedelta(seconds=5)}, "did not connect to"),
        ({"state": "talking", "connected_at": timedelta()}, "Listening"),
        ({"state": "talking", "connected_at": -timedelta(seconds=20)}, "nothing came over the connection"),
        ({"state": "speaking"}, "could not be answered"),
    ],
)
def test_the_first_call_is_watched(admin_client, pbx, make_call, fields, says):
    client = admin_client
    now = timezone.now()
    watch = f"{reverse('pbx-watch', args=[pbx.pk])}?since={(now - timedelta(minutes=1)).isoformat()}"
    assert "Waiting" in client.get(watch).content.decode()
    fields = {name: now + value if isinstance(value, timedelta) else value for name, value in fields.items()}
    PbxSession.objects.create(pbx=pbx, session_id="s", caller="1001", call=make_call(), **fields)
    text = client.get(watch).content.decode()
    assert says in text
    assert "1001" in text
    CallSession.objects.update(audio_in_s=3.0)
    assert "All is well" in client.get(watch).content.decode()
    for since in ("", "x", "2026-99-99T00:00:00Z", "2026-01-01"):
        assert "Waiting" in client.get(watch.partition("?")[0], {"since": since}).content.decode()


def test_a_calls_page_says_who_hung_up(admin_client, pbx, make_call):
    call = make_call()
    assert "Telephone" not in admin_client.get(call.get_absolute_url()).content.decode()
    session = PbxSession.objects.create(pbx=pbx, session_id="s", call=call, state="transferring")
    assert "main: a telephone is ringing" in admin_client.get(call.get_absolute_url()).content.decode()
    PbxSession.objects.end(pbx, session.session_id, "caller", "BYE")
    assert "main: hung up by caller (BYE)" in admin_client.get(call.get_absolute_url()).content.decode()


# --- In the admin -----------------------------------------------------------------------------------------


def form(**changes):
    fields = {"name": "p", "kind": "bridge", "agent_url": "http://localhost:8765/", "sample_rate": "8000"}
    fields |= {"timeout_ms": "3000", "return_target": "voiceagent", "overflow_text": "Later."}
    for inline in ("routes", "destinations"):
        fields |= {f"{inline}-TOTAL_FORMS": "0", f"{inline}-INITIAL_FORMS": "0"}
    return fields | changes


def test_a_pbx_is_entered_and_its_tokens_never_come_out(client, admin):
    client.force_login(admin)
    tokens = {"new_api_token": "api-secret", "new_rwi_token": "rwi-secret"}
    assert client.post(reverse("admin:calls_pbx_add"), form(**tokens)).status_code == 302
    pbx = Pbx.objects.get()
    assert (pbx.agent_url, pbx.api_token, pbx.rwi_token) == (
        "http://localhost:8765",
        "api-secret",
        "rwi-secret",
    )
    change = reverse("admin:calls_pbx_change", args=[pbx.pk])
    shown = client.get(change).content.decode()
    assert "secret" not in shown
    assert page_of(pbx) in shown
    client.post(change, form(forget_api_token="on"))
    pbx.refresh_from_db()
    assert (pbx.api_token, pbx.rwi_token) == ("", "rwi-secret")


def test_a_name_that_this_server_does_not_answer_to_is_refused(client, admin, settings):
    client.force_login(admin)
    settings.ALLOWED_HOSTS = ["localhost", "testserver"]
    answer = client.post(reverse("admin:calls_pbx_add"), form(agent_url="http://agent:8765"))
    assert "ALLOWED_HOSTS" in answer.content.decode()
    assert not Pbx.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_in_a_browser(live_server, chromium, rustpbx, tmp_path):  # noqa: F811  the fixture
    User.objects.create_superuser("root", password=PASSWORD)
    with chromium() as browser:
        page = browser.new_page(accept_downloads=True)
        page.goto(f"{live_server.url}/admin/calls/pbx/add/")
        page.get_by_label("Username").fill("root")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_label("Name:", exact=True).fill("Reception")
        page.get_by_label("Our address").fill(live_server.url)
        page.get_by_label("Its address").fill(rustpbx.url)
        page.get_by_label("New REST API token").fill(API_TOKEN)
        page.get_by_label("New RWI token").fill(RWI_TOKEN)
        page.get_by_role("button", name="Save and continue editing").click()
        page.get_by_role("link", name="Connect and test").click()
        expect(page.get_by_role("heading", name="Connect Reception")).to_be_visible()
        page.get_by_role("button", name="Make the tokens").click()
        with page.expect_download() as download:
            page.get_by_role("link", name="Download").first.click()
        file = tmp_path / download.value.suggested_filename
        download.value.save_as(file)
        assert file.name == "voiceagent.toml"
        url = tomllib.loads(file.read_text())["ivr"]["provider"]["url"]
        assert url == f"{live_server.url}/rustpbx/ivr"
        page.get_by_role("button", name="Test it").click()
        expect(page.locator(".checks .status.good")).to_have_count(3)
        for check in page.locator(".checks li").all():
            assert check.bounding_box()["height"] > 10, check.text_content()
        assert_fits(page)
        expect(page.get_by_role("status")).to_contain_text("Waiting for the first call")
