"""A profile's life in the admin: drafted, published, restored, duplicated, archived, edited by two."""

import json
import re
from html import unescape
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from calls.admin.forms import PromptProfileForm
from calls.models import PromptProfile, ProviderAccount
from calls.profiles import publishing
from calls.profiles.starters import starters
from calls.providers import accounts
from tests.conftest import group_of, publish_profile

pytestmark = pytest.mark.django_db

LIST = "/admin/calls/promptprofile/"
VOICE = "71a7ad14-091c-4e8e-a314-022ece01c121"


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch):
    monkeypatch.setattr(accounts, "_stored", {})


@pytest.fixture
def sales():
    return publish_profile("sales", name="Sales", greeting="Hello")


def page_of(profile, name="change", *more):
    return reverse(f"admin:calls_promptprofile_{name}", args=[profile.pk, *more])


class Editor:
    """Somebody with a profile's form open: what a browser would send of it, with what is typed."""

    def __init__(self, client, path):
        self.client, self.path = client, path
        self.take(client.get(path))

    def take(self, response):
        """The form as the page shows it."""
        self.response = response
        form = response.context["adminform"].form
        self.fields = {}
        for name in form.fields:
            value = form[name].value()
            if value is not None and value is not False:
                self.fields[name] = "on" if value is True else value
        self.fields |= {name: form[name].value() for name in form.fields if name.endswith("_settings")}
        self.fields = {
            name: json.dumps(value) if isinstance(value, dict) else value
            for name, value in self.fields.items()
        }

    def save(self, button="_continue", **typed):
        fields = {name: value for name, value in (self.fields | typed).items() if value is not None}
        response = self.client.post(self.path, fields | {button: "on"})
        if response.status_code == 302:
            self.path = urlsplit(response["Location"]).path
            response = self.client.get(self.path)
            self.take(response)
            return response
        self.take(response)
        return response

    def publish(self, note="changed", **typed):
        return self.save("_publish", note=note, **typed)

    @property
    def errors(self):
        return dict(self.response.context["adminform"].form.errors)

    @property
    def said(self):
        return [str(message) for message in self.response.context["messages"]]


# --- Draft and version ------------------------------------------------------------------------------------


def test_saving_writes_the_draft_and_publishing_makes_a_version(admin_client, admin, sales):
    editor = Editor(admin_client, page_of(sales))
    editor.save(greeting="Good day")
    assert editor.said == ["The draft is saved; calls go on with version 1 until it is published."]
    assert PromptProfile.objects.for_call("sales").configuration["greeting"] == "Hello"
    editor.publish("kinder")
    assert editor.said == ["Version 2 is published: the next call uses it."]
    version = PromptProfile.objects.for_call("sales")
    assert (version.number, version.configuration["greeting"]) == (2, "Good day")
    assert (version.author, version.note) == (admin, "kinder")
    editor.publish("again")
    assert editor.said == ["Nothing differs from version 2, which the next call uses."]
    assert sales.versions.count() == 2


def test_a_note_is_asked_for(admin_client, sales):
    editor = Editor(admin_client, page_of(sales))
    editor.publish("", greeting="Good day")
    assert list(editor.errors) == ["note"]
    assert editor.fields["greeting"] == "Good day"
    sales.refresh_from_db()
    assert sales.greeting == "Hello"


def test_the_first_version_has_a_note_already(admin_client):
    editor = Editor(admin_client, reverse("admin:calls_promptprofile_add"))
    assert editor.fields["note"] == "First version"
    editor.save(name="New", slug="new", system_prompt="Be brief.")
    assert editor.said == ["The draft is saved; no call uses it until it is published."]
    assert PromptProfile.objects.for_call("new") is None
    editor.save("_publish", is_default="on")
    assert PromptProfile.objects.default().note == "First version"
    assert "note" not in editor.fields


def test_a_draft_that_would_fail_is_saved_with_a_warning_and_not_published(admin_client, sales):
    editor = Editor(admin_client, page_of(sales))
    editor.save(language="de", **{"tts-local-speed": "1.5"})
    assert editor.said[1] == (
        "It cannot be published like this. Hearing: Embedded (Moonshine) does not know German; "
        "automatic is the cloud once its keys are set, and 1 more."
    )
    editor.publish()
    assert list(editor.errors) == ["language"]
    assert len(editor.errors["language"]) == 2
    assert sales.versions.count() == 1
    sales.refresh_from_db()
    assert (sales.language, sales.tts_settings) == ("de", {"speed": 1.5})


def test_keys_that_are_lost_at_the_last_moment_are_told(admin_client, sales, monkeypatch):
    """Between the form's check and the publishing."""

    def refuse(*_args, **_kwargs):
        raise publishing.NotReady([])

    monkeypatch.setattr(publishing, "publish", refuse)
    editor = Editor(admin_client, page_of(sales))
    editor.publish(greeting="Hi")
    assert any("not published" in said for said in editor.said)
    sales.refresh_from_db()
    assert sales.greeting == "Hi"


def test_the_history_names_the_fields_of_the_profile(admin_client, sales):
    Editor(admin_client, page_of(sales)).publish(greeting="Hi", **{"llm-local-temperature": "0.7"})
    assert LogEntry.objects.get().get_change_message() == "Changed Greeting and Temperature."


# --- Readiness --------------------------------------------------------------------------------------------


def findings(response):
    """The findings on a page, as people read them."""
    found = re.findall(r'<li class="level (\w+)">.*?<b>(.*?)</b>(.*?)</span></li>', response.content.decode())
    return [(level, part, unescape(re.sub("<[^>]*>", "", text)).strip()) for level, part, text in found]


NO_KEY = ("warning", "Voice", "Cartesia: no key → the embedded one, English only")


def test_readiness_is_on_the_form_and_in_the_list(admin_client, sales):
    editor = Editor(admin_client, page_of(sales))
    assert {level for level, _, _ in findings(editor.response)} == {"ready"}
    assert NO_KEY in findings(editor.save(tts_provider="cartesia"))
    rows = admin_client.get(LIST).content.decode()
    assert re.search(r'<span class="level warning" title="Voice: Cartesia: no key.*?">⚠︎ ready', rows)
    account = ProviderAccount(provider="cartesia")
    account.key = "key"
    account.save()
    assert '<span class="level ready"' in admin_client.get(LIST).content.decode()


def test_readiness_of_what_is_typed_is_told_and_nothing_saved(admin_client, sales, analyst):
    fields = Editor(admin_client, page_of(sales)).fields | {"tts_provider": "cartesia"}
    there = reverse("admin:calls_promptprofile_readiness")
    assert NO_KEY in findings(admin_client.post(there, fields))
    assert findings(admin_client.post(there, {"stt_settings": "{", "llm_settings": "[]"}))
    assert findings(admin_client.post(there, {}))
    PromptProfile.objects.filter(pk=sales.pk).update(llm_provider="gone")
    gone = admin_client.post(f"{there}?profile={sales.pk}", fields | {"llm_provider": "gone"})
    assert ("error", "Thinking", "gone: there is no such provider here") in findings(gone)
    sales.refresh_from_db()
    assert sales.tts_provider == "auto"
    analyst.is_staff = True
    analyst.save()
    reader = Client()
    reader.force_login(analyst)
    assert reader.post(there, fields).status_code == 403


def test_a_new_profile_started_from_something_shows_its_own_readiness(admin_client):
    page = admin_client.get(reverse("admin:calls_promptprofile_add") + "?start=restaurant&language=de")
    assert ("error", "Hearing") in [found[:2] for found in findings(page)]


def test_the_list_says_how_each_stands(admin_client, sales):
    PromptProfile.objects.create(name="New", slug="new", system_prompt="x")
    publish_profile("old").archive()
    PromptProfile.objects.filter(pk=sales.pk).update(greeting="Hi", language="de-AT")

    def listed(query=""):
        cells = re.findall(
            r'class="field-(state|language_name)">(.*?)<', admin_client.get(LIST + query).content.decode()
        )
        return [text for _, text in cells]

    assert listed() == ["draft", "English", "version 1 · draft has changes", "German (Austria)"]
    assert listed("?archived=yes") == ["archived", "English"]
    assert len(listed("?archived=all")) == 6


# --- Start from -------------------------------------------------------------------------------------------


def test_every_start_leads_to_a_form_that_can_be_published(admin_client, settings):
    settings.CARTESIA_API_KEY = settings.OPENAI_API_KEY = "key"
    add = reverse("admin:calls_promptprofile_add")
    links = re.findall(r'href="(\?start=[^"]*)"', admin_client.get(add).content.decode())
    assert len({*links}) == len(starters()) == 20
    for link in map(unescape, links):
        chosen = parse_qs(link.removeprefix("?"))
        starter = starters()[chosen["start"][0], chosen["language"][0]]
        editor = Editor(admin_client, add + link)
        editor.save("_publish")
        version = PromptProfile.objects.get(name=starter.name).versions.get()
        assert version.note == f"From “{starter.name}”"
        assert version.configuration.items() >= {**starter.fields(), "name": None}.items() - {("name", None)}
    slugs = PromptProfile.objects.values_list("slug", flat=True)
    assert {"restaurant", "restaurant-2", "restaurant-4", "out-of-hours"} <= {*slugs}


def test_an_unknown_start_is_an_empty_form(admin_client):
    add = reverse("admin:calls_promptprofile_add")
    assert "system_prompt" not in Editor(admin_client, f"{add}?start=pirate&language=de").fields


# --- Provider settings as fields --------------------------------------------------------------------------


def test_the_fields_of_the_chosen_provider_are_its_settings(admin_client, sales):
    editor = Editor(admin_client, page_of(sales))
    editor.save(tts_provider="cartesia", **{"tts-cartesia-voice": VOICE, "tts-cartesia-speed": "1.2",
                                            "tts-local-speed": "0.7"})  # fmt: skip
    sales.refresh_from_db()
    assert sales.tts_settings == {"voice": VOICE, "speed": 1.2}
    assert editor.fields["tts-cartesia-speed"] == 1.2
    assert editor.fields["tts_settings"] == "{}"
    editor.save(tts_provider="local")
    sales.refresh_from_db()
    assert sales.tts_settings == {}, "what another provider was told is none of this one's"


def test_only_the_chosen_providers_fields_are_shown(admin_client, sales):
    def shown(response):
        groups = re.findall(r'data-provider="(\w+)"( hidden)?', response.content.decode())
        return [name for name, hidden in groups if not hidden]

    editor = Editor(admin_client, page_of(sales))
    assert shown(editor.response) == ["local", "local", "local"]
    assert shown(editor.save(llm_provider="openai")) == ["local", "openai", "local"]


def test_automatic_shows_the_fields_of_the_one_it_stands_for(admin_client, sales, settings):
    settings.CARTESIA_API_KEY = settings.OPENAI_API_KEY = "key"
    editor = Editor(admin_client, page_of(sales))
    editor.save(**{"llm-openai-model": "gpt-4.1", "llm-local-max_tokens": "10"})
    sales.refresh_from_db()
    assert (sales.llm_provider, sales.llm_settings) == ("auto", {"model": "gpt-4.1"})


def test_what_no_field_can_hold_stays_in_the_json(admin_client, sales):
    stored = {"temperature": 0.5, "max_tokens": "many", "colour": "red"}
    PromptProfile.objects.filter(pk=sales.pk).update(llm_settings=stored)
    editor = Editor(admin_client, page_of(sales))
    assert editor.fields["llm-local-temperature"] == 0.5
    assert json.loads(editor.fields["llm_settings"]) == {"max_tokens": "many", "colour": "red"}
    editor.save()
    sales.refresh_from_db()
    assert sales.llm_settings == stored
    editor.publish()
    assert list(editor.errors) == ["llm_settings"]


def test_mistakes_are_told_at_their_field(admin_client, sales):
    editor = Editor(admin_client, page_of(sales))
    editor.save(**{"llm-local-temperature": "9", "llm-openai-temperature": "9"})
    assert list(editor.errors) == ["llm-local-temperature"]
    editor = Editor(admin_client, page_of(sales))
    editor.publish(stt_provider="local", **{"stt-local-model": "moonshine-base-en"})
    assert editor.errors == {"stt-local-model": ["moonshine-base-en is not installed: make better-stt"]}
    editor = Editor(admin_client, page_of(sales))
    editor.publish(tts_provider="cartesia", **{"tts-cartesia-voice": "Ann"})
    assert list(editor.errors) == ["tts-cartesia-voice"]


def test_a_language_of_its_own_stays_chosen(admin_client, sales):
    PromptProfile.objects.filter(pk=sales.pk).update(language="en-NZ")
    editor = Editor(admin_client, page_of(sales))
    assert "en-NZ (unknown here)" in editor.response.content.decode()
    editor.save(greeting="Hi")
    sales.refresh_from_db()
    assert sales.language == "en-NZ"


# --- Two at once ------------------------------------------------------------------------------------------


@pytest.fixture
def two(sales):
    """Anna and Bob, each with the form open."""
    clients = []
    for name in ("anna", "bob"):
        person = User.objects.create_user(name, is_staff=True)
        person.groups.add(group_of("Admins"))
        clients.append(Client())
        clients[-1].force_login(person)
    return [Editor(client, page_of(sales)) for client in clients]


def changes(editor):
    return {change.field: (change.theirs, change.is_contested)
            for change in editor.response.context["adminform"].form.others.changes}  # fmt: skip


class TestTwoAtOnce:
    def test_the_second_sees_whose_change_came_between_and_loses_nothing(self, two, sales):
        anna, bob = two
        anna.save(greeting="Anna's", farewell="Bye", tts_provider="cartesia", **{"tts-cartesia-speed": "1.1"})
        bob.publish("mine", greeting="Bob's", apology="Oh", is_default="on")
        assert sales.versions.count() == 1
        assert bob.errors == {
            "__all__": ["anna has changed this profile while you were writing. Nothing is saved yet."]
        }
        assert changes(bob) == {
            "greeting": ("Anna's", True),
            "farewell": ("Bye", False),
            "tts_provider": ("cartesia\nspeed: 1.1", False),
        }
        page = bob.response.content.decode()
        assert "anna changed this profile while you were writing" in page
        assert '<div class="theirs" tabindex="0" id="theirs-greeting">Anna&#x27;s</div>' in page
        kept = {name: bob.fields[name] for name in ("greeting", "apology", "is_default", "note")}
        assert kept == {"greeting": "Bob's", "apology": "Oh", "is_default": "on", "note": "mine"}
        taken = {name: bob.fields[name] for name in ("farewell", "tts_provider", "tts-cartesia-speed")}
        assert taken == {"farewell": "Bye", "tts_provider": "cartesia", "tts-cartesia-speed": "1.1"}

        bob.save("_publish")
        said = PromptProfile.objects.default().configuration
        assert (said["greeting"], said["apology"], said["farewell"]) == ("Bob's", "Oh", "Bye")
        assert said["tts_settings"] == {"speed": 1.1}

    def test_settings_of_one_provider_are_one_thing(self, two, sales):
        anna, bob = two
        anna.save(**{"llm-local-temperature": "0.9"})
        bob.save(llm_provider="openai", **{"llm-openai-model": "gpt-4.1"})
        assert changes(bob) == {"llm_provider": ("auto\ntemperature: 0.9", True)}
        bob.save()
        sales.refresh_from_db()
        assert (sales.llm_provider, sales.llm_settings) == ("openai", {"model": "gpt-4.1"})

    def test_the_same_change_by_both_is_none(self, two, sales):
        anna, bob = two
        anna.save(greeting="Hi", is_default=None)
        bob.save(greeting="Hi")
        assert not bob.errors

    def test_a_box_that_another_has_unticked_is_unticked(self, two, sales):
        anna, bob = two
        anna.save(allow_interruptions=None)
        bob.save(greeting="Hi")
        assert changes(bob) == {"allow_interruptions": ("no", False)}
        bob.save()
        sales.refresh_from_db()
        assert (sales.allow_interruptions, sales.greeting) == (False, "Hi")

    def test_a_split_is_changed_by_one_and_kept_by_the_other(self, two, sales):
        anna, bob = two
        anna.save(split_version=sales.versions.get().pk, split_percent="30")
        bob.save(greeting="Hi")
        assert changes(bob) == {
            "split_version": (str(sales.versions.get().pk), False), "split_percent": ("30", False),
        }  # fmt: skip
        bob.save()
        sales.refresh_from_db()
        assert (sales.split_version.number, sales.split_percent, sales.greeting) == (1, 30, "Hi")

    def test_a_third_change_is_noticed_as_well(self, two, sales):
        anna, bob = two
        anna.save(greeting="One")
        bob.save(apology="Oh")
        anna.save(greeting="Two")
        bob.save()
        assert changes(bob) == {"greeting": ("Two", False)}

    def test_a_change_past_the_admin_is_somebodys(self, two, sales):
        _anna, bob = two
        sales.refresh_from_db()
        sales.greeting = "From a file"
        sales.save()
        bob.save(greeting="Bob's")
        assert "Somebody changed this profile while you were writing" in bob.response.content.decode()
        assert changes(bob) == {"greeting": ("From a file", True)}

    def test_an_archive_is_not_undone_unseen(self, two, sales):
        anna, bob = two
        anna.client.post(page_of(sales, "archive"))
        bob.publish("kinder", greeting="Bob's")
        assert changes(bob) == {"archived_at": ("yes", False)}
        page = bob.response.content.decode()
        assert "anna changed this profile while you were writing" in page
        assert "Publishing it takes it out again." in page
        sales.refresh_from_db()
        assert sales.archived_at
        bob.save("_publish")
        sales.refresh_from_db()
        assert (sales.archived_at, sales.greeting) == (None, "Bob's")

    def test_publishing_alone_disturbs_nobody(self, two):
        anna, bob = two
        anna.publish()
        bob.save(greeting="Hi")
        assert not bob.errors

    @pytest.mark.parametrize(
        "seen",
        [
            "",
            "{",
            "[]",
            '{"revision": 1}',
            '{"revision": 0, "values": 3, "log": 1}',
            '{"revision": 0, "values": {}, "log": 1e400}',
            "[" * 100_000,
        ],
        ids=range(7),
    )
    def test_a_form_that_says_nothing_of_what_was_seen_is_taken(self, two, sales, seen):
        anna, bob = two
        anna.save(greeting="Anna's")
        bob.save(greeting="Bob's", seen=seen)
        sales.refresh_from_db()
        assert sales.greeting == "Bob's"


# --- Restore, duplicate, archive --------------------------------------------------------------------------


class TestLife:
    def test_an_old_version_is_restored_after_a_look(self, admin_client, sales):
        editor = Editor(admin_client, page_of(sales))
        editor.publish(greeting="Second", farewell="Bye")
        link = page_of(sales, "restore", 1)
        assert link in editor.response.content.decode()
        asked = admin_client.get(link).content.decode()
        assert "In the draft this changes: Greeting, Farewell." in asked
        assert "in no version" not in asked
        editor.save(greeting="Third")
        assert "in no version; they are replaced" in admin_client.get(link).content.decode()
        response = admin_client.post(link, follow=True)
        sales.refresh_from_db()
        assert sales.greeting == "Hello"
        assert [str(m) for m in response.context["messages"]] == [
            "The draft is what version 1 was. Publish it to have calls use it."
        ]
        assert PromptProfile.objects.for_call("sales").number == 2
        assert LogEntry.objects.first().get_change_message() == "Restored version 1 as the draft."
        assert admin_client.get(page_of(sales, "restore", 9)).status_code == 404

    @pytest.mark.parametrize("page", [("restore", 1), ("archive",)])
    def test_what_another_saves_after_the_look_is_not_lost(self, two, sales, page):
        anna, bob = two
        anna.publish(greeting="Second")
        address = page_of(sales, *page)
        seen = anna.client.get(address).context["original"].revision
        Editor(bob.client, page_of(sales)).save(greeting="Bob's")
        response = anna.client.post(address, {"revision": seen})
        assert "Meanwhile somebody else changed this profile." in response.content.decode()
        sales.refresh_from_db()
        assert (sales.greeting, sales.archived_at) == ("Bob's", None)
        now = response.context["original"].revision
        assert f'name="revision" value="{now}"' in response.content.decode()
        assert anna.client.post(address, {"revision": now}).status_code == 302
        sales.refresh_from_db()
        assert sales.greeting == "Hello" or sales.archived_at

    def test_a_profile_is_duplicated_in_one_click(self, admin_client, sales):
        response = admin_client.post(page_of(sales, "duplicate"), follow=True)
        copy = PromptProfile.objects.get(slug="sales-2")
        assert response.redirect_chain[-1][0] == page_of(copy)
        assert copy.greeting == "Hello"
        assert LogEntry.objects.get().object_id == str(copy.pk)

    def test_a_profile_is_put_away_and_taken_out(self, admin_client, sales):
        assert "can be taken out again" in admin_client.get(page_of(sales, "archive")).content.decode()
        admin_client.post(page_of(sales, "archive"))
        assert PromptProfile.objects.for_call("sales") is None
        page = admin_client.get(page_of(sales)).content.decode()
        assert "This profile is archived" in page
        assert page_of(sales, "archive") not in page
        admin_client.post(page_of(sales, "unarchive"))
        sales.refresh_from_db()
        assert (sales.archived_at, sales.is_published) == (None, False)
        admin_client.post(page_of(sales, "archive"))
        Editor(admin_client, page_of(sales)).publish(greeting="Again")
        assert PromptProfile.objects.for_call("sales").configuration["greeting"] == "Again"

    def test_a_reader_is_offered_and_allowed_nothing(self, client, analyst, sales):
        analyst.is_staff = True
        analyst.save()
        client.force_login(analyst)
        page = client.get(page_of(sales)).content.decode()
        assert "Hearing" in page
        for offered in ("_publish", "Save draft", "Duplicate", "Archive", "Restore", 'name="seen"'):
            assert offered not in page
        for path in (page_of(sales, "archive"), page_of(sales, "duplicate"), page_of(sales, "unarchive"),
                     page_of(sales, "restore", 1)):  # fmt: skip
            assert client.post(path).status_code == 403
        assert client.post(page_of(sales), {"_publish": "on"}).status_code == 403

    def test_a_profile_that_is_gone_is_said_to_be(self, admin_client):
        for path in ("archive", "restore/1", "duplicate", "unarchive"):
            assert admin_client.post(f"{LIST}99/{path}/").status_code == 404


def test_the_form_is_made_without_a_request():
    """As others do who look at values that are not saved."""
    form = PromptProfileForm(instance=PromptProfile())
    assert [service.kind for service in form.services] == ["stt", "llm", "tts"]
