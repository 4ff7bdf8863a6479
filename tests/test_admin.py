import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from django.contrib import admin as django_admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection, connections, transaction
from django.forms.models import model_to_dict
from django.test import Client
from django.urls import reverse, reverse_lazy
from django.utils import timezone
from pytest_django.asserts import assertContains

from calls.admin.forms import PromptProfileForm
from calls.models import (
    Calendar,
    CallEvent,
    CallSession,
    Pbx,
    PromptProfile,
    ProviderAccount,
    Rule,
    TrialTicket,
    Turn,
)
from calls.providers import catalogue
from calls.templatetags.call_format import pretty_json
from tests.conftest import PASSWORD, end_row, event_row, group_of, publish_profile

pytestmark = pytest.mark.django_db

INDEX = "/admin/"
PROFILES = "/admin/calls/promptprofile/"
PUBLISH = {"_publish": "Publish", "note": "as ordered"}


@pytest.fixture
def superuser_client(client):
    client.force_login(User.objects.create_superuser("root"))
    return client


def profile_form(**changes):
    """What the browser posts for a new profile, with `changes`."""
    profile = PromptProfile(name="Sales", slug="sales", system_prompt="Sell.")
    values = model_to_dict(profile).items()
    fields = {name: value for name, value in values if value is not None and value is not False}
    fields |= {name: "{}" for name in fields if name.endswith("_settings") and fields[name] == {}}
    return fields | changes


def save_new(client, **changes):
    """Save a new profile's draft."""
    return client.post(reverse("admin:calls_promptprofile_add"), profile_form(**changes))


def publish_new(client, **changes):
    """Publish a new profile."""
    return save_new(client, **PUBLISH, **changes)


def errors(response):
    return response.context["adminform"].form.errors


def test_an_admin_makes_and_edits_a_profile(admin_client):
    assert save_new(admin_client).status_code == 302
    profile = PromptProfile.objects.get(slug="sales")
    assert profile.llm_settings == {}

    change = reverse("admin:calls_promptprofile_change", args=[profile.id])
    admin_client.post(change, profile_form(greeting="Good day", llm_settings='{"temperature": 0.5}'))
    profile.refresh_from_db()
    assert (profile.greeting, profile.llm_settings) == ("Good day", {"temperature": 0.5})


def test_a_new_default_is_accepted_and_takes_over(admin_client):
    PromptProfile.objects.ensure_default()
    assert publish_new(admin_client, is_default="on").status_code == 302
    assert list(PromptProfile.objects.filter(is_default=True).values_list("slug", flat=True)) == ["sales"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("llm_settings", '{"temperature": 9}', "temperature must be a number from 0 to 2"),
        ("stt_settings", '{"colour": "red"}', "unknown setting 'colour'"),
        ("tts_settings", "[]", "Enter a JSON object"),
        ("tts_settings", "{", "line 1, column 2: Expecting property name"),
        ("llm_settings", '{"temperature": 0.5,\n "max_tokens": 40,\n}', "line 3, column 1"),
        ("llm_settings", "temperature", "line 1, column 1"),
        ("end_of_turn_silence_s", "9", "less than or equal to 5"),
        ("slug", "two words", "valid “slug”"),
        ("system_prompt", "", "required"),
    ],
)
def test_a_wrong_value_is_explained_on_its_field(admin_client, field, value, says):
    response = publish_new(admin_client, **{field: value})
    assert response.status_code == 200
    assert list(errors(response)) == [field]
    assert says in errors(response)[field][0]
    assert not PromptProfile.objects.exists()


def test_every_mistake_in_settings_is_reported_at_once(admin_client):
    wrong = '{"temperature": 9, "colour": "red", "max_tokens": "many"}'
    said = errors(publish_new(admin_client, llm_settings=wrong, tts_settings='{"colour": "red"}'))
    assert list(said) == ["llm_settings", "tts_settings"]
    for mistake, each in zip(
        ("temperature must", "unknown setting", "max_tokens must"), said["llm_settings"], strict=True
    ):
        assert mistake in each


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (r'{"model": "a\ud800b"}', "half of a character"),
        (r'{"model": "a\u0000b"}', "cannot be stored"),
        (r'{"\udfff": 1}', "cannot be stored"),
        ('{"temperature": NaN}', "a number that is none"),
        ('{"temperature": 1e999}', "a number that is none"),
        ("[" * 5000, "nested too deep"),
        ('{"a":' * 5000, "nested too deep"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested too deep"),
        ('{"max_tokens": ' + "9" * 5000 + "}", "too long a number"),
        ('{"max_tokens": ' + "9" * 4000 + "}", "max_tokens must be"),
    ],
)
@pytest.mark.parametrize("provider", ["auto", "openai"])
def test_settings_that_cannot_be_stored_are_explained_on_their_field(admin_client, provider, settings, says):
    """And what was typed is still there."""
    response = publish_new(admin_client, llm_provider=provider, llm_settings=settings)
    assert list(errors(response)) == ["llm_settings"]
    assert says in str(errors(response)["llm_settings"])
    assert len(str(errors(response)["llm_settings"])) < 1000
    assert settings in unescape(response.content.decode())
    assert not PromptProfile.objects.exists()


def test_a_profile_is_not_valid_with_settings_that_cannot_be_stored():
    profile = PromptProfile(name="A", slug="a", system_prompt="x", llm_settings={"model": "a\ud800b"})
    with pytest.raises(ValidationError, match="cannot be stored"):
        profile.full_clean()


def test_what_sqlite_stored_before_can_be_shown():
    settings = {"model": "a\ud800b"}
    form = PromptProfileForm(instance=PromptProfile(llm_settings=settings))
    assert "a?b" in str(form["llm_settings"])
    assert r"a\ud800b" in pretty_json(settings)


def test_settings_are_checked_against_the_chosen_provider(admin_client):
    settings = {"llm_settings": '{"model": "gpt-4o-mini"}'}
    assert "llm_settings" in errors(publish_new(admin_client, llm_provider="local", **settings))
    assert publish_new(admin_client, llm_provider="openai", **settings).status_code == 302


def test_a_prompt_longer_than_the_model_takes_is_not_published(admin_client):
    prompt = "You answer the telephone of a shop. " * 200
    (message,) = errors(publish_new(admin_client, llm_provider="local", system_prompt=prompt))[
        "system_prompt"
    ]
    assert f"{len(prompt.strip()):,}" in message
    assert "takes 3,000" in message
    assert "system_prompt" in errors(publish_new(admin_client, llm_provider="auto", system_prompt=prompt))
    assert publish_new(admin_client, llm_provider="openai", system_prompt=prompt).status_code == 302


def test_emptied_settings_become_an_empty_object(admin_client):
    assert save_new(admin_client, llm_settings="").status_code == 302
    assert PromptProfile.objects.get().llm_settings == {}


def test_every_field_of_a_profile_is_on_the_page(admin_client):
    page = admin_client.get(reverse("admin:calls_promptprofile_add"))
    shown = {name for name in page.context["adminform"].form.fields if "-" not in name}
    model = {field.name for field in PromptProfile._meta.fields if field.editable and field.name != "id"}
    assert shown - {"confirmed", "note", "seen"} == model - {"is_published"}
    html = page.content.decode()
    hidden = [name for name in page.context["adminform"].form.fields if f'name="{name}"' not in html]
    assert hidden == []


def test_a_profile_that_calls_used_is_not_deleted(admin_client, make_call):
    PromptProfile.objects.ensure_default()
    profile = PromptProfile.objects.get()
    delete = reverse("admin:calls_promptprofile_delete", args=[profile.id])
    call = make_call(profile=profile)
    assert admin_client.post(delete, {"post": "yes"}).status_code == 200
    assert CallSession.objects.get().profile == profile
    Turn.objects.all().delete()
    CallSession.objects.finish(end_row(call.id))
    CallSession.objects.erase([call.id])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 302
    assert not PromptProfile.objects.exists()


# --- Who answers, once a profile does not any more --------------------------------------------------------

NOBODY = "No profile is left that calls may use: every call will be refused."


class TestWhoTakesOver:
    @pytest.fixture
    def default(self):
        PromptProfile.objects.ensure_default()
        return PromptProfile.objects.get()

    def save(self, client, profile, confirmed="", **changes):
        """Post the profile's form as the browser would; a change to None unticks a box."""
        values = model_to_dict(profile).items()
        fields = {name: value for name, value in values if value is not None and value is not False}
        fields |= {name: "{}" for name in fields if name.endswith("_settings")} | changes
        fields = {name: value for name, value in fields.items() if value is not None}
        page = reverse("admin:calls_promptprofile_change", args=[profile.pk])
        return client.post(page, fields | {"confirmed": confirmed})

    def test_taking_the_default_away_is_asked_first(self, admin_client, default):
        publish_profile("night")
        PromptProfile.objects.create(name="Draft", slug="draft")
        asked = self.save(admin_client, default, is_default=None)
        assert list(errors(asked)) == ["confirmed"]
        heir = "“Receptionist”, the oldest published one"
        assert f"calls that name none will be answered by {heir}" in errors(asked)["confirmed"][0]
        assert re.search('<input type="checkbox" name="confirmed"', asked.content.decode())
        default.refresh_from_db()
        assert default.is_default
        assert self.save(admin_client, default, "on", is_default=None).status_code == 302
        default.refresh_from_db()
        assert not default.is_default
        assert PromptProfile.objects.answering().name in heir

    def test_nothing_else_is_asked(self, admin_client, default):
        night = publish_profile("night")
        assert 'name="confirmed"' in (page := self.page(admin_client, default))
        assert 'type="checkbox" name="confirmed"' not in page
        assert self.save(admin_client, default, greeting="Hi").status_code == 302
        assert self.save(admin_client, night, is_default="on").status_code == 302

    def test_archiving_says_who_takes_over(self, admin_client, default):
        def asked(profile):
            page = admin_client.get(reverse("admin:calls_promptprofile_archive", args=[profile.pk]))
            return self.consequence(page)

        assert asked(default) == NOBODY
        night = publish_profile("night")
        assert "“night”" in asked(default)
        assert asked(night) is None

    def page(self, client, profile):
        return client.get(reverse("admin:calls_promptprofile_change", args=[profile.pk])).content.decode()

    def consequence(self, response):
        found = re.search(r'<p class="consequence".*?</span> (.*?)</p>', response.content.decode())
        return found and unescape(found[1])

    def test_deleting_says_who_takes_over(self, admin_client, default):
        night, day = publish_profile("night"), publish_profile("day")

        def one(profile):
            return admin_client.get(reverse("admin:calls_promptprofile_delete", args=[profile.pk]))

        def some(*profiles):
            chosen = {"action": "delete_selected", "_selected_action": [profile.pk for profile in profiles]}
            return admin_client.post(PROFILES, chosen)

        assert "“night”" in self.consequence(one(default))
        assert self.consequence(one(night)) is None
        assert "“day”" in self.consequence(some(default, night))
        assert self.consequence(some(night, day)) is None
        assert self.consequence(some(default, night, day)) == NOBODY
        PromptProfile.objects.filter(pk=default.pk).update(is_default=False)
        PromptProfile.objects.filter(pk=day.pk).update(is_default=True)
        assert self.consequence(one(night)) is None
        assert "“Receptionist”" in self.consequence(one(day))

    def test_a_reader_of_profiles_sees_no_question(self, client, default, analyst):
        analyst.is_staff = True
        analyst.save()
        client.force_login(analyst)
        page = self.page(client, default)
        assert "Receptionist" in page
        assert "confirmed" not in page


# --- Versions ---------------------------------------------------------------------------------------------


# --- Providers --------------------------------------------------------------------------------------------


def test_a_registered_provider_is_chosen_without_a_migration(admin_client, monkeypatch):
    monkeypatch.setattr(catalogue, "PROVIDERS", list(catalogue.PROVIDERS))
    assert list(errors(save_new(admin_client, llm_provider="acme"))) == ["llm_provider"]
    catalogue.register(catalogue.Provider("llm", "acme", "Acme's model", "acme", "build", (), key="ACME_KEY"))
    page = admin_client.get(reverse("admin:calls_promptprofile_add")).content.decode()
    assert '<option value="acme">Acme&#x27;s model</option>' in page
    assert publish_new(admin_client, llm_provider="acme").status_code == 302
    profile = PromptProfile.objects.for_call("sales")
    assert profile.configuration["llm_provider"] == "acme"
    accounts = admin_client.get(reverse("admin:calls_provideraccount_add")).content.decode()
    assert '<option value="acme">' in accounts
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_a_provider_of_another_kind_is_none(admin_client):
    assert list(errors(save_new(admin_client, stt_provider="openai"))) == ["stt_provider"]


def test_a_provider_that_is_gone_stays_chosen(admin_client, monkeypatch):
    profile = PromptProfile.objects.create(name="Old", slug="old", tts_provider="gone", system_prompt="x")
    page = admin_client.get(reverse("admin:calls_promptprofile_change", args=[profile.id])).content.decode()
    assert '<option value="gone" selected>gone (unknown here)</option>' in page


ACCOUNT = {"provider": "openai", "label": "Sales", "is_enabled": "on", "base_url": ""}


def save_account(client, account=None, **fields):
    page = reverse("admin:calls_provideraccount_add")
    if account:
        page = reverse("admin:calls_provideraccount_change", args=[account.pk])
    return client.post(page, ACCOUNT | fields)


def test_a_key_goes_in_and_never_comes_out(admin_client, caplog):
    with caplog.at_level("DEBUG"):
        assert save_account(admin_client, new_key="sk-secret").status_code == 302
    account = ProviderAccount.objects.get()
    assert account.key == "sk-secret"
    listing = admin_client.get(reverse("admin:calls_provideraccount_changelist")).content.decode()
    page = admin_client.get(reverse("admin:calls_provideraccount_change", args=[account.pk])).content.decode()
    history = admin_client.get(
        reverse("admin:calls_provideraccount_history", args=[account.pk])
    ).content.decode()
    for text in (listing, page, history, caplog.text, str(list(LogEntry.objects.values()))):
        assert "sk-secret" not in text
        assert account.sealed_key not in text
    assert ">set<" in listing
    assert ">set<" in page


def test_a_key_is_kept_replaced_and_forgotten(admin_client):
    save_account(admin_client, new_key="sk-one")
    account = ProviderAccount.objects.get()
    for fields, key in (({}, "sk-one"), ({"new_key": "sk-two"}, "sk-two"), ({"forget_key": "on"}, "")):
        assert save_account(admin_client, account, **fields).status_code == 302
        account.refresh_from_db()
        assert account.key == key
    page = admin_client.get(reverse("admin:calls_provideraccount_change", args=[account.pk])).content.decode()
    assert ">not set<" in page


KEY_AGAIN = "enter the key again"


@pytest.mark.parametrize(
    ("fields", "stays"),
    [
        ({"label": "Other", "is_enabled": ""}, True),
        ({"base_url": "https://api.example.com/v2"}, True),
        ({"base_url": "https://api.example.org/v1"}, False),
        ({"base_url": "http://api.example.com/v1"}, False),
        ({"base_url": "https://api.example.com:8443/v1"}, False),
        ({"base_url": ""}, False),
        ({"provider": "cartesia", "base_url": "wss://api.example.com/v1"}, False),
    ],
)
def test_a_key_goes_nowhere_else(admin_client, fields, stays):
    """It is kept for the provider and the server that it was entered for."""
    there = {"base_url": "https://api.example.com/v1"}
    save_account(admin_client, new_key="sk-one", **there)
    account = ProviderAccount.objects.get()
    response = save_account(admin_client, account, **there | fields)
    account.refresh_from_db()
    assert account.key == "sk-one"
    assert response.status_code == (302 if stays else 200)
    if not stays:
        assert KEY_AGAIN in str(errors(response)["new_key"])
        assert account.base_url == there["base_url"]
        for last, key in (({"forget_key": "on"}, ""), ({"new_key": "sk-two"}, "sk-two")):
            assert save_account(admin_client, account, **there | fields | last).status_code == 302
            account.refresh_from_db()
            assert account.key == key


@pytest.mark.parametrize(
    ("provider", "url", "wrong"),
    [
        ("openai", "http://ollama:11434/v1", ""),
        ("openai", "http://[::1]:8000/v1", ""),
        ("openai", "https://user@api.openai.com", ""),
        ("cartesia", "ws://cartesia:9", ""),
        ("openai", "wss://api.openai.com", "reached by https:// or http://"),
        ("cartesia", "https://api.cartesia.ai", "reached by wss:// or ws://"),
        ("openai", "ollama:11434", "Enter a URL"),
        ("openai", "http://", "Enter a URL"),
        ("openai", "http://ollama:port", "Enter a URL"),
        ("openai", "http://[::1", "Enter a URL"),
        ("openai", "http://two words/", "Enter a URL"),
        ("openai", "http://ollama/v1?key=1", "Enter a URL"),
        ("openai", "file://ollama/etc/passwd", "Enter a URL"),
    ],
)
def test_a_base_url_is_one_the_provider_is_reached_by(admin_client, provider, url, wrong):
    response = save_account(admin_client, provider=provider, base_url=url)
    if wrong:
        assert wrong in str(errors(response)["base_url"])
    else:
        assert response.status_code == 302
        assert ProviderAccount.objects.get().base_url == url


def test_a_key_that_cannot_be_read_is_said_to_be_so(admin_client, settings):
    account = ProviderAccount(provider="openai")
    settings.SECRET_KEY, here = "another", settings.SECRET_KEY
    account.key = "sk-secret"
    account.save()
    settings.SECRET_KEY = here
    for page in ("changelist", "change"):
        where = reverse(f"admin:calls_provideraccount_{page}", args=[account.pk] if page == "change" else [])
        assert "cannot be read: enter it again" in admin_client.get(where).content.decode()


def test_two_enabled_accounts_of_one_provider_are_explained(admin_client):
    save_account(admin_client)
    response = save_account(admin_client)
    assert "Another account of this provider is enabled" in str(errors(response))
    assert ProviderAccount.objects.count() == 1


def test_an_analyst_with_the_staff_flag_sees_no_accounts(client, analyst):
    analyst.is_staff = True
    analyst.save()
    client.force_login(analyst)
    assert client.get(reverse("admin:calls_provideraccount_changelist")).status_code == 403


class TestWhatIsThere:
    @pytest.mark.parametrize(
        "path",
        [
            f"{PROFILES}?language=%00", f"{PROFILES}?q=a%00", f"{PROFILES}%00/change/", "/calls/?profile=%00",
            "/login/?next=%00", "/admin/r/1/%00/",
        ],
    )  # fmt: skip
    def test_an_address_with_nul_is_refused(self, superuser_client, path):
        assert superuser_client.get(path).status_code == 400

    def test_no_object_has_a_page_of_its_own_besides(self, superuser_client):
        for kind in ContentType.objects.all():
            assert superuser_client.get(f"/admin/r/{kind.pk}/1/").status_code == 404

    def test_it_lists_nothing_that_grows_with_calls(self):
        assert {*django_admin.site._registry} == {
            PromptProfile, ProviderAccount, Pbx, Rule, Calendar, User, Group,
        }  # fmt: skip

    @pytest.mark.parametrize("model", ["callsession", "turn", "callevent"])
    def test_calls_are_not_listed_a_second_time(self, superuser_client, make_call, model):
        call = make_call(said=[("caller", "hello")])
        for path in ("", "add/", f"{call.pk}/change/"):
            assert superuser_client.get(f"/admin/calls/{model}/{path}").status_code == 404

    def test_the_index_leads_to_the_calls(self, superuser_client):
        content = superuser_client.get(INDEX).content.decode()
        assert re.search(r'<p class="elsewhere">.*<a href="/calls/">Calls</a>', content)

    @pytest.mark.parametrize(
        "path", [INDEX, PROFILES, f"{PROFILES}add/", "/admin/auth/user/", "/admin/password_change/"]
    )
    def test_it_looks_like_the_product(self, superuser_client, path):
        content = superuser_client.get(path).content.decode()
        assert re.search(r"<title>[^<]* · Voice agent</title>", content)
        for part in ("css/site.css", "css/admin.css", "img/icon.svg", '<header class="site">'):
            assert part in content
        assert "Django" not in content
        assert "View site" not in content

    def test_dates_are_written_as_on_the_pages(self, superuser_client):
        PromptProfile.objects.ensure_default()
        PromptProfile.objects.update(updated_at=datetime(2026, 3, 4, 15, 0, tzinfo=UTC))
        assert "4 Mar 2026, 15:00" in superuser_client.get(PROFILES).content.decode()


class TestNavigation:
    def links(self, client, path=INDEX):
        content = client.get(path, follow=True).content.decode()
        (nav,) = re.findall(r'<nav aria-label="Main">(.*?)</nav>', content, re.DOTALL)
        return re.findall(r'href="([^"]*)"', nav)

    def test_it_is_the_same_in_the_admin_and_on_the_pages(self, admin_client):
        links = ["/calls/", "/profiles/", "/try/"]
        assert self.links(admin_client) == self.links(admin_client, "/calls/") == links

    def test_it_has_only_what_the_user_may_see(self, client, analyst, outsider):
        client.force_login(analyst)
        assert self.links(client, "/calls/") == ["/calls/", "/profiles/", "/try/"]
        analyst.groups.get().permissions.remove(Permission.objects.get(codename="view_promptprofile"))
        analyst = User.objects.get(pk=analyst.pk)
        client.force_login(analyst)
        assert self.links(client, "/calls/") == ["/calls/"]
        client.force_login(User.objects.create_user("clerk", is_staff=True))
        assert self.links(client) == []
        assert b'class="elsewhere"' not in client.get(INDEX).content
        client.force_login(outsider)
        assert self.links(client, "/calls/") == []

    def test_it_says_where_one_is(self, admin_client):
        for path, current in (
            ("/calls/", "Calls"),
            ("/profiles/", "Profiles"),
            (f"{PROFILES}add/", "Profiles"),
        ):
            content = admin_client.get(path).content.decode()
            assert re.findall(r'aria-current="\w+">(\w+)</a>', content)[:1] == [current]
        assert "Change password" in admin_client.get(INDEX).content.decode()


class TestOneLogin:
    def test_the_admin_sends_to_the_products_login_and_back(self, client, admin):
        response = client.get(PROFILES, follow=True)
        assert response.redirect_chain[-1] == (f"/login/?next={PROFILES}", 302)
        login = {"username": "admin", "password": PASSWORD, "next": PROFILES}
        assert client.post("/login/", login)["Location"] == PROFILES
        assert client.get(PROFILES).status_code == 200

    @pytest.mark.parametrize("method", ["get", "post"])
    def test_there_is_no_second_login_page(self, client, method):
        response = getattr(client, method)("/admin/login/")
        assert (response.status_code, response["Location"]) == (302, "/login/?next=/admin/")

    def test_whoever_is_logged_in_goes_on(self, admin_client):
        assert (
            admin_client.get(f"/admin/login/?next={PROFILES}", follow=True).redirect_chain[-1][0] == PROFILES
        )

    def test_logging_out_of_the_admin_is_logging_out(self, admin_client):
        assert admin_client.post("/admin/logout/")["Location"] == "/login/"
        assert admin_client.get("/calls/").status_code == 302

    def test_an_analyst_is_told_that_the_admin_is_not_for_him(self, client, analyst):
        client.force_login(analyst)
        response = client.get(INDEX, follow=True)
        assert response.status_code == 403
        assert "You may not see this page" in response.content.decode()
        assert 'href="/calls/"' in response.content.decode(), "what he may see is a click away"


class TestHowAProfilesCallsWent:
    @pytest.fixture
    def profile(self):
        PromptProfile.objects.ensure_default()
        return PromptProfile.objects.get()

    def line(self, client, profile):
        page = client.get(reverse("admin:calls_promptprofile_change", args=[profile.id])).content.decode()
        found = re.search(r'<p class="recent-errors.*?</p>', page, re.DOTALL)
        return found and found[0]

    def words(self, line):
        return " ".join(unescape(re.sub("<[^>]*>", " ", line)).split())

    def test_without_calls(self, admin_client, profile, make_call):
        make_call(profile=profile, started_at=timezone.now() - timedelta(days=8))
        assert self.words(self.line(admin_client, profile)) == "Last 7 days: no calls."

    def test_calls_with_errors_are_counted_and_listed(self, admin_client, profile, make_call):
        calls = [make_call(profile=profile, started_at=timezone.now()) for _ in range(3)]
        assert "3 calls , none with errors" in self.words(self.line(admin_client, profile))
        CallEvent.objects.record([event_row(calls[0].id, "no answer"), event_row(calls[0].id, "again")])
        CallEvent.objects.record([event_row(calls[1].id, kind="interruption", severity="info")])
        CallSession.objects.finish(end_row(calls[2].id, status="failed", end_reason="error", error="gone"))
        line = self.line(admin_client, profile)
        assert "⚠︎ 2 of 3 calls had errors" in self.words(line)
        there = admin_client.get(unescape(re.search('href="([^"]*)"', line)[1]))
        assert {*there.context["page"]} == {calls[0], calls[2]}

    def test_only_those_see_it_who_may_see_calls(self, client, profile):
        clerk = User.objects.create_user("clerk", is_staff=True)
        clerk.user_permissions.add(group_of("Admins").permissions.get(codename="view_promptprofile"))
        client.force_login(clerk)
        assert self.line(client, profile) is None


@pytest.mark.django_db(transaction=True)
class TestTwoAtOnce:
    """The second has sent its form when the first is saved and not yet committed."""

    def both(self, first, second):
        """What two people are answered. Each is given a client, already logged in."""
        clients = [Client(), Client()]
        for number, client in enumerate(clients):
            client.force_login(User.objects.create_superuser(f"root{number}"))
        saved = threading.Event()

        def begin():
            with transaction.atomic():
                answer = first(clients[0])
                saved.set()
                with connection.cursor() as cursor:
                    while connection.vendor == "postgresql" and not waiting(cursor):
                        cursor.execute("SELECT pg_sleep(0.01)")
                return answer

        def waiting(cursor):
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return cursor.fetchone()[0]

        def follow():
            saved.wait(20)
            return second(clients[1])

        def closing(work):
            try:
                return work()
            finally:
                connections.close_all()

        with ThreadPoolExecutor(2) as threads:
            return [
                answer.result(30) for answer in [threads.submit(closing, each) for each in (begin, follow)]
            ]

    def test_the_same_slug(self):
        first, second = self.both(save_new, save_new)
        assert first.status_code == 302
        assert "already exists" in str(errors(second))

    def test_two_defaults(self):
        """Choosing one takes it from the other, as ever."""
        first, second = self.both(
            lambda client: publish_new(client, is_default="on"),
            lambda client: publish_new(client, is_default="on", slug="other"),
        )
        assert first.status_code == second.status_code == 302
        assert [profile.slug for profile in PromptProfile.objects.filter(is_default=True)] == ["other"]

    def test_two_enabled_accounts(self):
        first, second = self.both(save_account, save_account)
        assert first.status_code == 302
        assert "Another account of this provider is enabled" in str(errors(second))

    @pytest.mark.parametrize("deletes", ["first", "second", "second, from the list"])
    def test_one_saves_what_the_other_deletes(self, deletes):
        profile = PromptProfile.objects.create(name="A", slug="a", system_prompt="x", is_published=True)
        profile.publish()
        change = reverse("admin:calls_promptprofile_change", args=[profile.pk])
        chosen = {"action": "delete_selected", "_selected_action": [profile.pk], "post": "yes"}

        def save(client):
            return client.post(change, profile_form(greeting="Good day"), follow=True)

        def delete(client):
            if "list" in deletes:
                return client.post(PROFILES, chosen, follow=True)
            return client.post(
                f"/admin/calls/promptprofile/{profile.pk}/delete/", {"post": "yes"}, follow=True
            )

        answers = self.both(*((delete, save) if deletes == "first" else (save, delete)))
        said = [[str(message) for message in answer.context["messages"]] for answer in answers]
        second = "Perhaps it was deleted?" if deletes == "first" else "deleted"
        assert [len(each) for each in said] == [1, 1]
        assert second in said[1][0]
        assert not PromptProfile.objects.exists()

    def test_a_default_saved_elsewhere(self):
        """Not by a form, as from a shell."""
        names = ("a", "b")
        profiles = [PromptProfile(name=name, slug=name, is_default=True, is_published=True) for name in names]
        self.both(*(lambda _, profile=profile: profile.save() for profile in profiles))
        assert PromptProfile.objects.get(is_default=True).slug == "b"


class TestTryingOut:
    TRY = reverse_lazy("admin:calls_promptprofile_try")

    def test_the_forms_values_are_kept_for_a_call_and_not_saved(self, admin_client, admin):
        profile = publish_profile("sales", greeting="Hello.")
        before = model_to_dict(profile)
        # Nor does it matter that others have this name, that no default is left, or that no name was entered.
        form = profile_form(name="", slug="sales", greeting="Unsaved.", llm_settings='{"max_tokens": 20}')
        answer = admin_client.post(f"{self.TRY}?profile={profile.pk}", form)
        assert answer.status_code == 200
        found = TrialTicket.objects.redeem(answer.json()["ticket"], admin.pk)
        assert (found.profile, found.slug) == (profile, "sales")
        tried = {name: found.configuration[name] for name in ("greeting", "llm_settings", "system_prompt")}
        assert tried == {"greeting": "Unsaved.", "llm_settings": {"max_tokens": 20}, "system_prompt": "Sell."}
        assert found.configuration.keys() == profile.configuration().keys()
        assert model_to_dict(PromptProfile.objects.get()) == before

    def test_a_new_profile_is_tried_before_it_is_saved(self, admin_client, admin):
        answer = admin_client.post(self.TRY, profile_form(system_prompt="Be new."))
        found = TrialTicket.objects.redeem(answer.json()["ticket"], admin.pk)
        assert (found.profile, found.configuration["system_prompt"]) == (None, "Be new.")
        assert not PromptProfile.objects.exists()

    def test_mistakes_are_told_by_field(self, admin_client):
        answer = admin_client.post(self.TRY, profile_form(system_prompt="", tts_settings="{pitch}"))
        told = {mistake["field"]: mistake["error"] for mistake in answer.json()["mistakes"]}
        assert told.keys() == {"System prompt", "Text-to-speech settings"}
        assert told["System prompt"] == "This field is required."
        assert not TrialTicket.objects.exists()

    def test_who_may_only_read_tries_nothing_unsaved(self, client, analyst):
        User.objects.filter(pk=analyst.pk).update(is_staff=True)
        client.force_login(analyst)
        profile = publish_profile("sales")
        for address in (self.TRY, f"{self.TRY}?profile={profile.pk}"):
            assert client.post(address, profile_form()).status_code == 403
        page = client.get(f"{PROFILES}{profile.pk}/change/").content.decode()
        assert 'data-profile="sales"' in page
        assert "data-values" not in page

    @pytest.mark.parametrize("key", ["0", "999", "x", "9" * 30])
    def test_a_profile_that_there_is_none_of(self, admin_client, key):
        assert admin_client.post(f"{self.TRY}?profile={key}", profile_form()).status_code == 403


# --- Texts ------------------------------------------------------------------------------------------------


def test_a_name_that_is_not_known_is_refused_on_its_field(admin_client):
    typed = {"greeting": "Hello {{ customer }}", "transfer_announcement": "To {{ destination }}"}
    response = publish_new(admin_client, **typed)
    assert list(errors(response)) == ["greeting"]
    assert "customer }} is not known" in errors(response)["greeting"][0]


def test_texts_are_shown_as_they_are_heard_before_they_are_saved(admin_client):
    page = admin_client.get(reverse("admin:calls_promptprofile_add"))
    preview = reverse("admin:calls_promptprofile_preview")
    assertContains(page, f'formaction="{preview}"')
    typed = {
        "greeting": 'Hello {{ metadata.name }} <b>{{ caller|default:"stranger" }}</b>',
        "farewell": "Bye {{ x }}", "language": "de",
    }  # fmt: skip
    response = admin_client.post(preview, profile_form(**typed))
    assertContains(response, "Hello ‹name› &lt;b&gt;+49 30 1234567&lt;/b&gt;")
    assertContains(response, "Hello  &lt;b&gt;stranger&lt;/b&gt;")
    assertContains(response, "{{ x }} is not known")
    assert not PromptProfile.objects.exists()
    too_long = admin_client.post(preview, profile_form(system_prompt="x" * 20_001))
    assertContains(too_long, "at most 20000 characters")


def test_a_second_version_is_one_of_the_profiles_own(admin_client):
    profile, other = publish_profile("sales", name="Sales"), publish_profile("night")
    page = reverse("admin:calls_promptprofile_change", args=[profile.pk])
    offered = admin_client.get(page).context["adminform"].form.fields["split_version"].queryset
    assert [version.profile.slug for version in offered] == ["sales"]
    values = profile_form(split_version=other.versions.get().pk)
    assert list(errors(admin_client.post(page, values))) == ["split_version"]
    assert admin_client.post(page, values | {"split_version": profile.versions.get().pk}).status_code == 302
    profile.refresh_from_db()
    assert (profile.split_version.number, profile.split_percent) == (1, 10)
