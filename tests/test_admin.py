import re
from datetime import timedelta
from html import escape, unescape

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.core.management import call_command
from django.forms.models import model_to_dict
from django.urls import reverse

from calls.models import CallEvent, CallSession, Node, PromptProfile, ProviderAccount, Turn
from calls.providers import catalogue
from tests.conftest import STARTED_AT, end_row, event_row, node_row, turn_row

pytestmark = pytest.mark.django_db

RECORDS = ["callsession", "turn", "callevent"]


@pytest.fixture
def admin_client(client, admin):
    """A member of the group Admins in Django admin."""
    client.force_login(admin)
    return client


@pytest.fixture
def superuser_client(client):
    client.force_login(User.objects.create_superuser("root"))
    return client


@pytest.fixture
def call(make_call):
    session = make_call(said=[("caller", "is the shop open"), ("agent", "yes it is")])
    CallEvent.objects.record([event_row(session.id, "no answer")])
    return session


def profile_form(**changes):
    """What the browser posts for a new profile, with `changes`."""
    profile = PromptProfile(name="Sales", slug="sales", system_prompt="Sell.", is_published=True)
    fields = {name: value for name, value in model_to_dict(profile).items() if value not in (None, False)}
    fields |= {name: "{}" for name in fields if name.endswith("_settings") and fields[name] == {}}
    return fields | changes


def save_new(client, **changes):
    return client.post(reverse("admin:calls_promptprofile_add"), profile_form(**changes))


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
    assert save_new(admin_client, is_default="on").status_code == 302
    assert list(PromptProfile.objects.filter(is_default=True).values_list("slug", flat=True)) == ["sales"]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("llm_settings", '{"temperature": 9}', "temperature must be a number from 0 to 2"),
        ("stt_settings", '{"colour": "red"}', "unknown setting 'colour'"),
        ("tts_settings", "[]", "Enter a JSON object"),
        ("tts_settings", "{", "Enter a valid JSON"),
        ("end_of_turn_silence_s", "9", "less than or equal to 5"),
        ("slug", "two words", "valid “slug”"),
        ("system_prompt", "", "required"),
    ],
)
def test_a_wrong_value_is_explained_on_its_field(admin_client, field, value, says):
    response = save_new(admin_client, **{field: value})
    assert response.status_code == 200
    assert list(errors(response)) == [field]
    assert says in errors(response)[field][0]
    assert not PromptProfile.objects.exists()


def test_settings_are_checked_against_the_chosen_provider(admin_client):
    settings = {"llm_settings": '{"model": "gpt-4o-mini"}'}
    assert "llm_settings" in errors(save_new(admin_client, llm_provider="local", **settings))
    assert save_new(admin_client, llm_provider="openai", **settings).status_code == 302


def test_emptied_settings_become_an_empty_object(admin_client):
    assert save_new(admin_client, llm_settings="").status_code == 302
    assert PromptProfile.objects.get().llm_settings == {}


def test_every_field_of_a_profile_is_on_the_page(admin_client):
    page = admin_client.get(reverse("admin:calls_promptprofile_add"))
    shown = set(page.context["adminform"].form.fields)
    model = {field.name for field in PromptProfile._meta.fields if field.editable and field.name != "id"}
    assert shown == model


@pytest.mark.parametrize("model", RECORDS)
def test_records_are_listed_searched_and_opened(admin_client, call, model):
    listing = admin_client.get(reverse(f"admin:calls_{model}_changelist"), {"q": "nothing like this"})
    assert listing.context["cl"].result_count == 0
    listing = admin_client.get(reverse(f"admin:calls_{model}_changelist"))
    record = listing.context["cl"].result_list[0]
    page = admin_client.get(reverse(f"admin:calls_{model}_change", args=[record.pk]))
    assert page.status_code == 200
    assert not page.context["has_change_permission"]
    assert b'name="_save"' not in page.content


def test_a_call_is_found_by_what_was_said_and_shows_it(admin_client, call, make_call):
    make_call()
    listing = admin_client.get(reverse("admin:calls_callsession_changelist"), {"q": "shop OPEN"})
    assert list(listing.context["cl"].result_list) == [call]
    page = admin_client.get(reverse("admin:calls_callsession_change", args=[call.pk]))
    assert b"is the shop open" in page.content
    assert b"no answer" in page.content


@pytest.fixture
def two_calls(make_call):
    """A call of 4 March that differs in everything from one of 6 March."""
    PromptProfile.objects.ensure_default()
    nodes = [node_row(name=name) for name in ("a:1", "b:1")]
    for node in nodes:
        Node.objects.renew(node)
    first = make_call(profile=PromptProfile.objects.get(), node_id=nodes[0].id)
    second = make_call(started_at=STARTED_AT + timedelta(days=2), node_id=nodes[1].id)
    CallSession.objects.finish(
        end_row(first.id, status="failed", end_reason="abuse", error="flooded"),
    )
    Turn.objects.record(
        [
            turn_row(first.id, 0, "caller", "hello"),
            turn_row(second.id, 0, "agent", "guten Tag", language="de", interrupted=True),
        ]
    )
    CallEvent.objects.record(
        [event_row(first.id), event_row(second.id, kind="interruption", severity="info")]
    )
    return first, second


def calls_of(listing):
    """The calls that the rows listed belong to."""
    assert listing.status_code == 200
    return [getattr(row, "session", row) for row in listing.context["cl"].result_list]


@pytest.mark.parametrize(
    ("model", "title", "choice"),
    [
        ("callsession", "status", "Failed"),
        ("callsession", "profile", "Receptionist"),
        ("callsession", "end reason", "Client misbehaved"),
        ("callsession", "client", "RustPBX of October 2025"),
        ("callsession", "node", "a:1"),
        ("turn", "speaker", "Caller"),
        ("turn", "interrupted", "No"),
        ("turn", "language", "en"),
        ("callevent", "kind", "Error"),
        ("callevent", "severity", "Error"),
    ],
)
def test_a_filter_leaves_the_rows_that_fit(admin_client, two_calls, model, title, choice):
    """Its links are followed as they are on the page."""
    path = reverse(f"admin:calls_{model}_changelist")
    page = admin_client.get(path)
    (choices,) = [
        {each["display"]: each["query_string"] for each in spec.choices(page.context["cl"])}
        for spec in page.context["cl"].filter_specs
        if spec.title == title
    ]
    assert escape(choices[choice]) in page.content.decode()
    assert calls_of(admin_client.get(path + choices["All"])) == [two_calls[1], two_calls[0]]
    assert calls_of(admin_client.get(path + choices[choice])) == [two_calls[0]]


@pytest.mark.parametrize("model", RECORDS)
def test_a_day_leaves_the_rows_of_its_calls(admin_client, two_calls, model):
    path = reverse(f"admin:calls_{model}_changelist")
    page = admin_client.get(path).content.decode()
    days = dict(re.findall(r'<a href="(\?[^"]*started_at__day=[^"]*)">\s*(March \d)\s*</a>', page))
    assert sorted(days.values()) == ["March 4", "March 6"]
    for link, day in days.items():
        call = two_calls[day == "March 6"]
        assert calls_of(admin_client.get(path + unescape(link))) == [call]


@pytest.mark.parametrize("model", RECORDS)
def test_not_even_a_superuser_writes_records(superuser_client, call, model):
    record = {"callsession": call, "turn": call.turns.first(), "callevent": call.events.first()}[model]
    add = reverse(f"admin:calls_{model}_add")
    change = reverse(f"admin:calls_{model}_change", args=[record.pk])
    delete = reverse(f"admin:calls_{model}_delete", args=[record.pk])
    listing = reverse(f"admin:calls_{model}_changelist")
    action = {"action": "delete_selected", "_selected_action": [str(record.pk)], "post": "yes"}

    assert [superuser_client.post(path, {}).status_code for path in (add, change, delete)] == [403] * 3
    superuser_client.post(listing, action)
    assert type(record).objects.filter(pk=record.pk).exists()


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


# --- Versions ---------------------------------------------------------------------------------------------


def test_saving_a_published_profile_publishes_what_differs(admin_client, admin):
    save_new(admin_client)
    profile = PromptProfile.objects.get()
    change = reverse("admin:calls_promptprofile_change", args=[profile.id])
    for fields in ({}, {"name": "Renamed"}, {"greeting": "Good day"}, {"greeting": "Good day"}):
        assert admin_client.post(change, profile_form(**fields)).status_code == 302
    versions = profile.versions.order_by("number")
    assert [(v.number, v.configuration["greeting"], v.author) for v in versions] == [
        (1, "", admin),
        (2, "Good day", admin),
    ]
    assert "2, published" in admin_client.get(change).content.decode()


def test_a_draft_is_saved_and_not_published(admin_client):
    fields = profile_form()
    del fields["is_published"]
    admin_client.post(reverse("admin:calls_promptprofile_add"), fields)
    profile = PromptProfile.objects.get()
    assert not profile.versions.exists()
    page = admin_client.get(reverse("admin:calls_promptprofile_change", args=[profile.id]))
    assert "none yet" in page.content.decode()


# --- Providers --------------------------------------------------------------------------------------------


def test_a_registered_provider_is_chosen_without_a_migration(admin_client, monkeypatch):
    monkeypatch.setattr(catalogue, "PROVIDERS", list(catalogue.PROVIDERS))
    assert list(errors(save_new(admin_client, llm_provider="acme"))) == ["llm_provider"]
    catalogue.register(catalogue.Provider("llm", "acme", "Acme's model", "acme", "build", (), key="ACME_KEY"))
    page = admin_client.get(reverse("admin:calls_promptprofile_add")).content.decode()
    assert '<option value="acme">Acme&#x27;s model</option>' in page
    assert save_new(admin_client, llm_provider="acme").status_code == 302
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


def test_an_analyst_has_no_way_into_the_admin(client, analyst):
    client.force_login(analyst)
    assert client.get(reverse("admin:index")).status_code == 302
