import re
from datetime import timedelta
from html import escape, unescape

import pytest
from django.contrib.auth.models import User
from django.forms.models import model_to_dict
from django.urls import reverse

from calls.models import CallEvent, CallSession, PromptProfile, Turn
from tests.conftest import STARTED_AT, turn_row

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
    row = {"session_id": session.id, "ms": 5, "kind": "error", "detail": {"message": "no answer"}}
    CallEvent.objects.record([row])
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
    first = make_call(profile_id=PromptProfile.objects.get().id, node="a:1")
    second = make_call(started_at=STARTED_AT + timedelta(days=2), node="b:1")
    CallSession.objects.finish(
        first.id, status="failed", end_reason="abuse", ended_at=STARTED_AT + timedelta(seconds=4),
        audio_in_s=1, audio_out_s=1, client_generation="seed", error="flooded",
    )  # fmt: skip
    Turn.objects.record(
        [
            turn_row(first.id, 0, "caller", "hello"),
            turn_row(second.id, 0, "agent", "guten Tag", language="de", interrupted=True),
        ]
    )
    event = {"ms": 5, "detail": {"message": "no answer"}}
    CallEvent.objects.record(
        [
            {**event, "session_id": first.id, "kind": "error"},
            {**event, "session_id": second.id, "kind": "interruption"},
        ]
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


def test_deleting_a_profile_keeps_its_calls(admin_client, make_call):
    PromptProfile.objects.ensure_default()
    profile = PromptProfile.objects.get()
    call = make_call(profile_id=profile.id)
    delete = reverse("admin:calls_promptprofile_delete", args=[profile.id])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 302
    assert CallSession.objects.get() == call


def test_an_analyst_has_no_way_into_the_admin(client, analyst):
    client.force_login(analyst)
    assert client.get(reverse("admin:index")).status_code == 302
