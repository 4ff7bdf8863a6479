"""Everybody at every door: each page, file and socket there is, by every method, as each kind of person.

The doors come from the URL configuration. A new one fails here until EXPECTED says who may see it.
"""

from pathlib import Path

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.apps import apps
from django.conf import settings as product
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.contrib.staticfiles import finders
from django.core import serializers
from django.db import transaction
from django.test import Client
from django.urls import URLResolver, get_resolver

from calls.models import Calendar, Pbx, PromptProfile, ProviderAccount, Rule
from calls.models.pbx import spoken_name
from calls.routing import websocket_urlpatterns

pytestmark = pytest.mark.django_db

PERSONAS = ("nobody", "outsider", "analyst", "admin", "root")
METHODS = ("HEAD", "OPTIONS", "TRACE", "PUT", "PATCH", "DELETE")

# What GET answers to whom, in the order of PERSONAS: nobody is logged in, an outsider has no rights, an
# analyst reads calls, an admin also edits profiles and providers, root is a superuser.
EVERYBODY = (200, 200, 200, 200, 200)
LED_ON = (302, 302, 302, 302, 302)
READERS = (302, 403, 200, 200, 200)
EDITORS = (302, 403, 403, 200, 200)
ADMINS = (302, 302, 302, 200, 200)  # the admin sends others to its login, which says 403
ADMINS_LED_ON = (302, 302, 302, 302, 302)
ADMINS_POST = (302, 302, 302, 405, 405)
ROOT = (302, 302, 302, 403, 200)
NOT_FOUND = (302, 302, 302, 404, 404)
NOWHERE = (404, 404, 404, 404, 404)
ONLY_POSTED = (405, 405, 405, 405, 405)
TRIED = "admin/calls/promptprofile/try/"  # a script posts the form's values there, and gets a ticket
EXPECTED = {
    "": LED_ON,
    "calls/": READERS,
    "calls/<call_id:id>/": READERS,
    "profiles/": READERS,
    "profiles/<slug:slug>/": READERS,
    "profiles/<slug:slug>/versions/": READERS,
    "profiles/<slug:slug>/results/": READERS,
    "profiles/<slug:slug>/connect/": READERS,
    "admin/calls/promptprofile/import/": ADMINS,
    "admin/calls/promptprofile/<path:object_id>/export/": ADMINS,
    "calls/<call_id:id>/live/": READERS,
    "calls/<call_id:id>/command/": (302, 403, 403, 405, 405),
    "try/": READERS,
    "try/sentence.wav": READERS,
    "login/": (200, 302, 302, 302, 302),
    "logout/": ONLY_POSTED,
    "healthz": EVERYBODY,
    "rustpbx/ivr": ONLY_POSTED,
    "rustpbx/ivr/start": ONLY_POSTED,
    "rustpbx/ivr/end": ONLY_POSTED,
    "rustpbx/ivr/fail": ONLY_POSTED,
    "rustpbx/webhook": ONLY_POSTED,
    "rustpbx/say/<str:name>.wav": EVERYBODY,
    "pbx/<int:pk>/": EDITORS,
    "pbx/<int:pk>/first-call/": EDITORS,
    "readyz": (503, 503, 503, 503, 503),  # no models are loaded here
    "admin/": ADMINS,
    "admin/login/": (302, 403, 403, 302, 302),
    "admin/logout/": ONLY_POSTED,
    "admin/password_change/": ADMINS,
    "admin/password_change/done/": ADMINS,
    "admin/autocomplete/": (302, 302, 302, 403, 403),  # nothing is offered so
    "admin/jsi18n/": ADMINS,
    "admin/r/<path:thing>": NOWHERE,  # no object has a page outside
    "admin/r/<path:content_type_id>/<path:object_id>/": NOWHERE,
    "admin/^(?P<app_label>auth|calls)/$": ADMINS,
    "admin/(?P<url>.*)$": NOT_FOUND,
    "admin/auth/user/<id>/password/": ROOT,
    TRIED: (302, 302, 302, 405, 405),
    "admin/calls/rule/who/": ADMINS,
    "admin/calls/promptprofile/preview/": ADMINS,
}
for page, answers in {
    "readiness/": ADMINS,
    "<path:object_id>/archive/": ADMINS,
    "<path:object_id>/unarchive/": ADMINS_POST,
    "<path:object_id>/duplicate/": ADMINS_POST,
    "<path:object_id>/restore/<int:number>/": ADMINS,
}.items():
    EXPECTED[f"admin/calls/promptprofile/{page}"] = answers
OF_A_MODEL = {
    "auth/group": ROOT,
    "auth/user": ROOT,
    "calls/provideraccount": ADMINS,
    "calls/promptprofile": ADMINS,
    "calls/pbx": ADMINS,
    "calls/rule": ADMINS,
    "calls/calendar": ADMINS,
}
for model, answers in OF_A_MODEL.items():
    for page in (
        "",
        "add/",
        "<path:object_id>/history/",
        "<path:object_id>/delete/",
        "<path:object_id>/change/",
    ):
        EXPECTED[f"admin/{model}/{page}"] = answers
    EXPECTED[f"admin/{model}/<path:object_id>/"] = ADMINS_LED_ON

# Where machines post: what strangers get. They bring a token; a browser's session counts for nothing.
OF_MACHINES = {
    "rustpbx/ivr": 401,
    "rustpbx/ivr/start": 200,  # does nothing
    "rustpbx/ivr/end": 200,
    "rustpbx/ivr/fail": 401,
    "rustpbx/webhook": 401,
}

# What a form would send, as far as these pages know it: it deletes, publishes, makes somebody a superuser.
HARM = {
    "post": "yes", "action": "delete_selected", "_publish": "on", "note": "lies",
    "is_superuser": "on", "is_staff": "on", "username": "mallory", "name": "Mallory", "slug": "mallory",
    "system_prompt": "Lie.",
    "password1": "correct horse battery", "password2": "correct horse battery", "usable_password": "true",
}  # fmt: skip
# Who may do something there; others change nothing.
MAY_CHANGE = {
    "calls/provideraccount": {"admin", "root"},
    "calls/promptprofile": {"admin", "root"},
    "calls/pbx": {"admin", "root"},
    "calls/rule": {"admin", "root"},
    "calls/calendar": {"admin", "root"},
}


def doors(patterns, before=""):
    """The routes of the URL configuration, as they are written there."""
    for pattern in patterns:
        route = before + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from doors(pattern.url_patterns, route)
        else:
            yield route


ROUTES = list(dict.fromkeys(doors(get_resolver().url_patterns)))


@pytest.fixture
def people(admin, analyst, outsider):
    return {
        "nobody": None, "outsider": outsider, "analyst": analyst, "admin": admin,
        "root": User.objects.create_superuser("root"),
    }  # fmt: skip


@pytest.fixture
def things(people, make_call):
    """One of each that an address can name, by how the route writes it."""
    PromptProfile.objects.ensure_default()
    profile = PromptProfile.objects.get()
    account = ProviderAccount.objects.create(provider="openai")
    pbx = Pbx.objects.create(
        name="main", agent_url="http://127.0.0.1:9", overflow_text="Said to every persona."
    )
    calendar = Calendar.objects.create(name="Berlin", region="DE-BE")
    rule = Rule.objects.create(name="Night", profile=profile, calendar=calendar)
    spoken = product.DATA_DIR / "spoken" / f"{spoken_name(pbx.overflow_text)}.wav"
    spoken.parent.mkdir(exist_ok=True)
    spoken.write_bytes(b"RIFF")
    return {
        "<slug:slug>": profile.slug,
        "<call_id:id>": make_call(profile=profile, said=[("caller", "secret")]).pk,
        "<path:thing>": "1/1/",
        "<path:content_type_id>": ContentType.objects.get_for_model(PromptProfile).pk,
        "<id>": people["analyst"].pk,
        "^(?P<app_label>auth|calls)/$": "calls/",
        "(?P<url>.*)$": "nothing-here/",
        "promptprofile/<path:object_id>": f"promptprofile/{profile.pk}",
        "provideraccount/<path:object_id>": f"provideraccount/{account.pk}",
        "calls/pbx/<path:object_id>": f"calls/pbx/{pbx.pk}",
        "<int:number>": 1,
        "calls/rule/<path:object_id>": f"calls/rule/{rule.pk}",
        "calls/calendar/<path:object_id>": f"calls/calendar/{rule.calendar.pk}",
        "<int:pk>": pbx.pk,
        "<str:name>": spoken_name(pbx.overflow_text),
        "group/<path:object_id>": f"group/{Group.objects.first().pk}",
        "user/<path:object_id>": f"user/{people['analyst'].pk}",
        "/<path:object_id>": f"/{profile.pk}",
    }


def path_of(route, things):
    for written, thing in things.items():
        route = route.replace(written, str(thing))
    assert not {*"<>()^$"} & {*route}, f"say in `things` what {route} may name"
    return f"/{route}"


def visitor(person, **options):
    client = Client(**options)
    if person:
        client.force_login(person)
    return client


def harm(path):
    """What a form there could send to do most harm, to what the address names, or the first one of a list."""
    named = [part for part in path.split("/") if part.isdigit()]
    return HARM | {"_selected_action": (named or ["1"])[-1]}


def may_change(name, route):
    """Whether this person may change something by the forms there."""
    return name == "root" or any(model in route and name in who for model, who in MAY_CHANGE.items())


def everything():
    """All that is stored, but for sessions, and when and how often somebody logged in."""
    User.objects.update(last_login=None)
    kept = [apps.get_app_config(name).get_models() for name in ("calls", "auth", "admin")]
    return [
        serializers.serialize("json", model.objects.order_by("pk")) for models in kept for model in models
    ]


def test_every_door_is_declared():
    assert {*ROUTES} == {*EXPECTED}


@pytest.mark.parametrize("route", ROUTES)
class TestEveryDoor:
    def test_who_sees_it(self, route, people, things):
        path = path_of(route, things)
        seen = tuple(visitor(people[name]).get(path).status_code for name in PERSONAS)
        assert seen == EXPECTED[route]

    def test_nobody_is_led_past_the_login(self, route, people, things):
        """Who is led elsewhere and may see nothing comes to the login, or to a page that refuses him."""
        path = path_of(route, things)
        for name, expected in zip(PERSONAS, EXPECTED[route], strict=True):
            if name in ("nobody", "outsider") and expected == 302:
                response = visitor(people[name]).get(path, follow=True)
                is_login = response.redirect_chain[-1][0].startswith("/login/")
                assert is_login or response.status_code in (403, 404), (name, response.redirect_chain)

    def test_no_other_method_opens_or_changes_it(self, route, people, things):
        path = path_of(route, things)
        before = everything()
        for name, expected in zip(PERSONAS, EXPECTED[route], strict=True):
            for method in METHODS:
                answer = visitor(people[name]).generic(method, path)
                if method == "HEAD":
                    assert answer.status_code == expected, name
                if expected != 200:
                    assert answer.status_code >= 300 or answer.content == b"", (name, method)
            assert everything() == before, name

    def test_a_form_changes_something_for_those_only_who_may(self, route, people, things):
        path = path_of(route, things)
        before = everything()
        for name, expected in zip(PERSONAS, EXPECTED[route], strict=True):
            with transaction.atomic():
                answer = visitor(people[name]).post(path, harm(path))
                if route in OF_MACHINES:
                    assert answer.status_code == OF_MACHINES[route], name
                elif expected != 200 and not (route == TRIED and may_change(name, route)):
                    assert answer.status_code >= 300, name
                if not may_change(name, route):
                    assert everything() == before, name
                transaction.set_rollback(True)

    def test_no_form_is_taken_from_another_site(self, route, people, things):
        """Without the token of a form of ours, nothing that changes something is done."""
        path = path_of(route, things)
        for name in PERSONAS:
            client = visitor(people[name], enforce_csrf_checks=True)
            before = everything()
            for method in ("POST", "PUT", "PATCH", "DELETE"):
                refused = {OF_MACHINES.get(route, 403), 405}
                assert client.generic(method, path).status_code in refused, (name, method)
            assert everything() == before
            assert bool(client.session.get("_auth_user_id")) == (name != "nobody"), "still logged in or out"


def test_the_forms_can_do_harm(people, things):
    """Else the tests above would show nothing."""
    before = everything()
    path = path_of("admin/auth/user/<path:object_id>/delete/", things)
    assert visitor(people["root"]).post(path, harm(path)).status_code == 302
    assert everything() != before


class TestFiles:
    """Whoever asks gets the pictures and stylesheets of the pages, and no other file."""

    def files(self):
        for finder in finders.get_finders():
            yield from finder.list([])

    def test_static_files_hold_no_secrets(self):
        kinds = {Path(path).suffix for path, _ in self.files()}
        assert kinds <= {"", ".css", ".js", ".svg", ".txt", ".md", ".png", ".gif"}

    @pytest.mark.parametrize("up", ["../", "%2e%2e/", "..%2f", "/", "%2f", "./../", "css/../../", "..\\"])
    @pytest.mark.parametrize("name", ["secret_key", "voiceagent.sqlite3"])
    @pytest.mark.parametrize("persona", ["nobody", "root"])
    def test_nothing_else_is_served(self, people, up, name, persona):
        (product.DATA_DIR / name).touch()
        client = visitor(people[persona])
        for path in (f"/static/{up}{name}", f"/{name}", f"/data/{name}", f"/media/{name}"):
            assert client.get(path, follow=True).status_code == 404, path


# Which sockets there are, and whether one is opened for a caller on this machine.
# Paths, and whether a client that may stream calls is let in there; "" takes whatever the others do not.
SOCKETS = {
    "ws/try/": False,
    "ws/rustpbx": True,
    "ws/rustpbx/": True,
    "": True,
    "ws/commands": False,
    "ws/elsewhere": False,
}
SIGNED = "ws/commands"  # opened for nobody but `manage.py calls`
OF_BROWSERS = "ws/try/"  # opened for pages of ours by which somebody tries the agent out


class TestEverySocket:
    def test_every_socket_is_declared(self):
        served = {str(pattern.pattern) for pattern in websocket_urlpatterns}
        assert served == {path for path, opens in SOCKETS.items() if opens} | {SIGNED, OF_BROWSERS}

    @pytest.fixture(params=PERSONAS)
    def session(self, request, people):
        """The key of somebody's session; made here, as the test itself runs in the event loop."""
        return visitor(people[request.param]).session.session_key

    @pytest.mark.parametrize("route", SOCKETS)
    async def test_who_is_logged_in_opens_none(self, route, session, settings):
        """Sockets are for RustPBX: this machine, or a token. A browser's session counts for nothing."""
        settings.STREAM_TOKENS = ["token"]
        cookie = [(b"cookie", f"sessionid={session}".encode())]
        assert not await self.opens(f"/{route}", "192.0.2.7", cookie)
        assert not await self.opens(f"/{route}?token=wrong", "192.0.2.7", cookie)
        foreign = [*cookie, (b"origin", b"https://evil.example")]
        assert not await self.opens(f"/{route}?token=token", "127.0.0.1", foreign)
        assert await self.opens(f"/{route}?token=token", "192.0.2.7", cookie) == SOCKETS[route]
        assert await self.opens(f"/{route}", "127.0.0.1", cookie) == SOCKETS[route]

    @pytest.mark.django_db(transaction=True)  # logins are read in another thread
    async def test_a_browser_opens_its_own_for_those_who_may_see_profiles(self, session, request, settings):
        """By its session and from our page alone: the ticket is nobody's, so there is no call."""
        settings.STREAM_TOKENS = ["token"]
        persona = request.node.callspec.params["session"]
        cookie = [(b"cookie", f"a=b; sessionid={session}".encode()), (b"host", b"agent.test:8765")]
        url = "/ws/try/?ticket=nobodys&token=token"
        ours = [*cookie, (b"origin", b"http://agent.test:8765")]
        may = persona not in ("nobody", "outsider")
        assert await self.opens(url, "192.0.2.7", ours) == may
        for origin in (
            b"https://agent.test:8765",
            b"http://agent.test:3000",
            b"https://evil.example",
            b"null",
        ):
            assert not await self.opens(url, "192.0.2.7", [*cookie, (b"origin", origin)]), origin
        assert not await self.opens(url, "127.0.0.1", cookie), "no page of ours"
        assert not await self.opens(url, "127.0.0.1", ours[1:]), "nobody is logged in"

    async def opens(self, url, address, headers):
        client = WebsocketCommunicator(URLRouter(websocket_urlpatterns), url, headers=headers)
        client.scope["client"] = [address, 4711]
        opened, _ = await client.connect()
        if opened:
            await client.disconnect()
        else:
            await client.wait()
        return opened
