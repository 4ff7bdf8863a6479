"""Rules: which call each matches, in its own time zone, and which profile they choose in the end."""

from datetime import UTC, datetime, time
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.db import OperationalError

from calls.models import Asked, Calendar, CallSession, CallStart, Description, PromptProfile, Rule
from calls.models.rule import ANY_DAY, OnHolidays, fits
from calls.profiles import choosing
from calls.providers import accounts
from tests.conftest import STARTED_AT, publish_profile

pytestmark = pytest.mark.django_db(transaction=True)

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = {"begins_at": time(18), "ends_at": time(8), "time_zone": "Europe/Berlin"}
WEEKEND = {"weekdays": "67", "time_zone": "Europe/Berlin"}


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(choosing, "_remembered", {})
    monkeypatch.setattr(choosing, "_rules", [])
    monkeypatch.setattr(accounts, "_stored", {})


@pytest.fixture
def profiles(db):
    PromptProfile.objects.ensure_default()
    return {slug: publish_profile(slug) for slug in ("night", "vip")}


def asked(at=STARTED_AT, *, caller="", callee=""):
    return Asked(caller, callee, at)


def berlin(*when):
    return asked(datetime(*when, tzinfo=BERLIN))


@pytest.mark.parametrize(
    ("patterns", "value", "does"),
    [
        ("", "", True),
        ("", "anything", True),
        ("100", "100", True),
        ("100", "1000", False),
        ("100, Sales*", "sales-desk", True),
        ("+4930*", "+49 30 1234", True),
        ("+49 (30) 12*", "0049301234", True),
        ("+4930*", "sip:+49301234@pbx.example.org", True),
        ("+4930*", "+49 40 1", False),
        ("*", "", True),
        ("anonymous", "Anonymous", True),
        ("100", "", False),
    ],
)
def test_numbers_and_names_are_described_by_patterns(patterns, value, does):
    assert fits(patterns, value) is does


@pytest.mark.parametrize(
    ("fields", "call", "why_not"),
    [
        ({}, asked(), ""),
        ({"callee": "100"}, asked(callee="200"), "200 is called"),
        ({"caller": "+4930*"}, asked(), "an unknown caller calls"),
        (NIGHT, berlin(2026, 3, 4, 17, 59), "it is 17:59"),
        (NIGHT, berlin(2026, 3, 4, 18, 0), ""),
        (NIGHT, berlin(2026, 3, 5, 7, 59), ""),
        (NIGHT, berlin(2026, 3, 5, 8, 0), "it is 08:00"),
        # In summer Berlin is two hours ahead of UTC, in winter one.
        (NIGHT, asked(datetime(2026, 7, 1, 16, 30, tzinfo=UTC)), ""),
        (NIGHT, asked(datetime(2026, 1, 7, 16, 30, tzinfo=UTC)), "it is 17:30"),
        (WEEKEND, berlin(2026, 3, 6, 23, 59), "it is Friday"),
        (WEEKEND, berlin(2026, 3, 7, 0, 0), ""),
        (WEEKEND, asked(datetime(2026, 3, 6, 23, 0, tzinfo=UTC)), ""),
        # The night of a Friday lasts until Saturday's morning.
        (NIGHT | {"weekdays": "5"}, berlin(2026, 3, 7, 3, 0), ""),
        (NIGHT | {"weekdays": "5"}, berlin(2026, 3, 6, 3, 0), "it is Thursday"),
        ({"begins_at": time(12)}, asked(), "it is 10:00"),
        ({"ends_at": time(10)}, asked(), "it is 10:00"),
        ({"begins_at": time(10)}, asked(), ""),
        ({"begins_at": time(9), "ends_at": time(0)}, asked(), ""),
    ],
)
def test_a_rule_matches_or_says_why_not(fields, call, why_not):
    assert Rule(name="r", **fields).why_not(call) == why_not


@pytest.mark.parametrize(
    ("on_holidays", "weekdays", "day", "why_not"),
    [
        (OnHolidays.NEVER, ANY_DAY, 8, "2026-03-08 is a holiday"),  # Women's Day, in Berlin
        (OnHolidays.NEVER, ANY_DAY, 9, ""),
        (OnHolidays.ONLY, "1", 8, ""),
        (OnHolidays.ONLY, ANY_DAY, 9, "2026-03-09 is no holiday"),
        (OnHolidays.ALWAYS, "1", 8, ""),
        (OnHolidays.ALWAYS, "1", 9, ""),
        (OnHolidays.ALWAYS, "1", 10, "it is Tuesday"),
        (OnHolidays.ONLY, ANY_DAY, 24, ""),  # one of the calendar's own
        (OnHolidays.ANY, "7", 8, ""),
    ],
)
def test_holidays(on_holidays, weekdays, day, why_not):
    calendar = Calendar(name="Berlin", region="DE-BE", days="2026-03-24 # closed\n\n2026-12-24")
    rule = Rule(
        name="r", calendar=calendar, on_holidays=on_holidays, weekdays=weekdays, time_zone="Europe/Berlin"
    )
    assert rule.why_not(berlin(2026, 3, day, 12)).startswith(why_not)
    assert bool(rule.why_not(berlin(2026, 3, day, 12))) == bool(why_not)


@pytest.mark.parametrize(
    ("model", "fields", "wrong"),
    [
        (Calendar, {"name": "x", "region": "XX"}, "region"),
        (Calendar, {"name": "x", "region": "DE-XX"}, "region"),
        (Calendar, {"name": "x", "days": "24.12."}, "days"),
        (Rule, {"name": "x", "time_zone": "Berlin"}, "time_zone"),
        (Rule, {"name": "x", "on_holidays": OnHolidays.ONLY}, "calendar"),
        (Rule, {"name": "x", "begins_at": time(8), "ends_at": time(8)}, "ends_at"),
    ],
)
def test_what_cannot_be_is_explained_on_its_field(profiles, model, fields, wrong):
    if model is Rule:
        fields |= {"profile": profiles["night"]}
    with pytest.raises(ValidationError) as refused:
        model(**fields).full_clean()
    assert list(refused.value.message_dict) == [wrong]


def rule(profile, position=10, **fields):
    return Rule.objects.create(name=profile.slug, profile=profile, position=position, **fields)


async def test_the_first_rule_that_matches_chooses(profiles):
    await sync_to_async(rule)(profiles["night"], 20)
    await sync_to_async(rule)(profiles["vip"], 10, caller="+4930*")
    assert (await choosing.choose(caller="+49 30 1")).slug == "vip"
    assert (await choosing.choose(caller="1")).slug == "night"
    await Rule.objects.filter(name="night").aupdate(is_enabled=False)
    assert (await choosing.choose(caller="1")).slug == "default"


async def test_a_named_profile_wins_over_rules_and_one_that_is_unknown_gets_the_default(profiles):
    await sync_to_async(rule)(profiles["night"])
    assert (await choosing.choose("vip")).slug == "vip"
    unknown = await choosing.choose("nobody")
    assert (unknown.slug, unknown.found) == ("default", False)


async def test_a_rule_is_passed_over_whose_profile_calls_may_not_use(profiles):
    await sync_to_async(rule)(profiles["vip"], 1)
    await sync_to_async(rule)(profiles["night"], 2)
    await PromptProfile.objects.filter(slug="vip").aupdate(is_published=False)
    assert (await choosing.choose()).slug == "night"


async def test_a_rule_that_cannot_be_used_harms_no_other(profiles, caplog):
    await sync_to_async(rule)(profiles["vip"], 1, time_zone="No/Where")
    await sync_to_async(rule)(profiles["night"], 2)
    assert (await choosing.choose()).slug == "night"
    assert "the rule 'vip' cannot be used" in caplog.text


async def test_with_the_database_away_rules_choose_as_they_did(profiles, monkeypatch):
    await sync_to_async(rule)(profiles["night"], caller="1")
    await sync_to_async(choosing.any_embedded)()  # as at the start of the process

    def away(*_):
        raise OperationalError("away")

    monkeypatch.setattr(choosing, "_read", away)
    assert (await choosing.choose(caller="1")).slug == "night"
    assert (await choosing.choose(caller="2")).slug == "default"


async def test_a_version_can_be_named(profiles):
    profile = profiles["vip"]
    profile.greeting = "Hello"
    await profile.asave()
    await sync_to_async(profile.publish)()
    chosen = await choosing.choose("vip", version=1)
    assert (chosen.number, chosen.configuration["greeting"], chosen.found) == (1, "", True)
    missing = await choosing.choose("vip", version=9)
    assert (missing.number, missing.found) == (2, False)
    await sync_to_async(rule)(profiles["night"])
    assert (await choosing.choose(version=1)).slug == "night"  # a version of nothing says nothing


def split(profile, percent):
    """A second published version, of which the first one takes so many percent of the calls."""
    profile.greeting = "Second"
    profile.save()
    profile.publish()
    profile.split_version, profile.split_percent = profile.versions.get(number=1), percent
    profile.full_clean()
    profile.save()
    return profile


async def test_two_versions_share_the_calls_as_chance_has_it(profiles, monkeypatch):
    await sync_to_async(split)(profiles["vip"], 90)
    for chance, number in ((0.0, 1), (0.899, 1), (0.9, 2), (0.999, 2)):
        monkeypatch.setattr(choosing.random, "random", lambda chance=chance: chance)
        assert (await choosing.choose("vip")).number == number
    assert (await choosing.choose("vip", version=1)).number == 1

    def away(*_):
        raise OperationalError("away")

    monkeypatch.setattr(choosing, "_read", away)
    monkeypatch.setattr(choosing.random, "random", lambda: 0.5)
    assert (await choosing.choose("vip")).number == 1
    assert (await choosing.choose("vip", version=2)).number == 2
    gone = await choosing.choose("vip", version=3)
    assert (gone.number, gone.found) == (2, False)


def test_shares_are_about_what_they_are_set_to(profiles):
    known = choosing._known(split(profiles["vip"], 90).versions.first())
    drawn = [known.draw().number for _ in range(5000)]
    assert 0.86 < drawn.count(1) / len(drawn) < 0.94


def test_the_second_version_is_one_of_the_same_profile(profiles):
    profile = profiles["vip"]
    profile.split_version = profiles["night"].versions.get()
    with pytest.raises(ValidationError, match="version of this profile"):
        profile.full_clean()


def test_a_call_keeps_the_version_that_was_drawn_and_how_long_it_is_kept(profiles):
    profile = publish_profile("kept", retention_days=30)
    start = CallStart(
        uuid4(), profile.versions.get().pk, Description("r", "", "", {}, {}), STARTED_AT, "", None
    )
    call = CallSession.objects.start(start)
    assert (call.version.number, (call.expires_at - STARTED_AT).days) == (1, 30)


def test_a_new_rule_is_of_any_day(admin_client):
    form = admin_client.get("/admin/calls/rule/add/").context["adminform"].form
    assert form["weekdays"].value() == list("1234567")
