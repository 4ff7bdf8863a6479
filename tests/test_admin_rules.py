"""Rules in the admin: made, listed, and who would answer a call."""

from datetime import time

import pytest
from django.urls import reverse
from pytest_django.asserts import assertContains, assertNotContains

from calls.models import Pbx, PromptProfile, Rule
from tests.conftest import publish_profile
from tests.test_admin import errors

pytestmark = pytest.mark.django_db

WHO = "/admin/calls/rule/who/"


@pytest.fixture
def rule():
    PromptProfile.objects.ensure_default()
    profile = publish_profile("night", name="Night desk")
    return Rule.objects.create(
        name="At night", profile=profile, begins_at=time(18), ends_at=time(8), time_zone="Europe/Berlin"
    )


def test_one_is_made_and_listed(admin_client, rule):
    typed = {
        "name": "Weekend", "position": 5, "is_enabled": "on", "profile": rule.profile.pk,
        "weekdays": ["7", "6"], "begins_at": "", "ends_at": "", "time_zone": "Europe/Berlin",
        "on_holidays": "any", "calendar": "", "callee": "", "caller": "+4930*",
    }  # fmt: skip
    assert admin_client.post(reverse("admin:calls_rule_add"), typed).status_code == 302
    assert Rule.objects.get(name="Weekend").weekdays == "67"
    page = admin_client.get(reverse("admin:calls_rule_changelist"))
    assertContains(page, "Sa, Su")
    assertContains(page, "every day, 18:00 to 08:00")
    assertContains(page, WHO)
    shown = admin_client.get(reverse("admin:calls_rule_change", args=[Rule.objects.get(name="Weekend").pk]))
    assertContains(shown, 'value="6"')
    assert shown.context["adminform"].form["weekdays"].value() == ["6", "7"]
    none = admin_client.post(reverse("admin:calls_rule_add"), typed | {"weekdays": []})
    assert list(errors(none)) == ["weekdays"]


def test_who_would_answer(admin_client, rule):
    """The server's time zone is UTC."""
    Rule.objects.create(name="Off", profile=rule.profile, is_enabled=False)
    assertContains(admin_client.get(WHO), "Who would answer?")
    night = admin_client.get(WHO, {"callee": "100", "at": "2026-03-04T20:00"})
    assertContains(night, "“At night” → Night desk, version 1")
    assertContains(night, "no: it is not in force")
    day = admin_client.get(WHO, {"caller": "<b>", "at": "2026-03-04T10:00"})
    assertContains(day, "No rule matches: the default one → Receptionist, version 1")
    assertContains(day, "no: it is 11:00")
    assertNotContains(day, '<b>"')
    wrong = admin_client.get(WHO, {"at": "yesterday"})
    assertContains(wrong, "Enter a valid date/time")


def test_the_route_of_a_pbx_comes_first(admin_client, rule):
    pbx = Pbx.objects.create(name="main", agent_url="http://127.0.0.1:9")
    sales = publish_profile("sales", name="Sales")
    pbx.routes.create(callee="100", profile=sales)
    told = admin_client.get(WHO, {"callee": "100", "at": "2026-03-04T20:00", "pbx": pbx.pk})
    assertContains(told, "A route of the PBX → Sales, version 1")
    assertContains(told, "yes, but the route counts")


def test_without_a_profile_nobody(admin_client):
    assertContains(admin_client.get(WHO, {"callee": "100"}), "Nobody: no profile is published")


def test_a_profile_that_a_rule_needs_is_not_deleted(admin_client, rule):
    page = reverse("admin:calls_promptprofile_delete", args=[rule.profile.pk])
    assertContains(admin_client.get(page), "Rule: ")
    admin_client.post(page, {"post": "yes"})
    assert PromptProfile.objects.filter(pk=rule.profile.pk).exists()
