from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from calls.models import CallEvent, CallSession, PromptProfile, Turn
from calls.models.storable import MAX_DEPTH, storable_json, storable_text
from tests.conftest import STARTED_AT, turn_row

pytestmark = pytest.mark.django_db


def make_profile(slug, **fields):
    return PromptProfile.objects.create(
        **{"name": slug, "slug": slug, "system_prompt": "Be brief.", "is_published": True} | fields
    )


def finish(session, **fields):
    end = {
        "status": "completed",
        "end_reason": "disconnect",
        "ended_at": STARTED_AT + timedelta(seconds=10),
        "audio_in_s": 10.0,
        "audio_out_s": 4.5,
        "client_generation": "seed",
    }
    return CallSession.objects.finish(session.id, **end | fields)


class TestPromptProfile:
    def test_a_new_default_takes_over_from_the_old_one(self):
        old, new = make_profile("old", is_default=True), make_profile("new")
        new.is_default = True
        new.full_clean()
        new.save()
        old.refresh_from_db()
        assert not old.is_default
        assert PromptProfile.objects.default() == new

    def test_saving_other_fields_of_a_stale_default_leaves_the_new_one(self):
        stale = make_profile("old", is_default=True)
        new = make_profile("new", is_default=True)
        stale.name = "renamed"
        stale.save(update_fields=["name"])
        new.refresh_from_db()
        assert new.is_default

    def test_the_database_refuses_two_defaults(self):
        make_profile("first", is_default=True)
        make_profile("second")
        with pytest.raises(IntegrityError), transaction.atomic():
            PromptProfile.objects.filter(slug="second").update(is_default=True)

    def test_an_unpublished_profile_cannot_be_the_default(self):
        profile = PromptProfile(name="x", slug="x", system_prompt="x", is_default=True)
        with pytest.raises(ValidationError) as caught:
            profile.full_clean()
        assert list(caught.value.message_dict) == ["is_published"]
        with pytest.raises(IntegrityError), transaction.atomic():
            profile.save()

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("end_of_turn_silence_s", 0.1),
            ("end_of_turn_silence_s", 5.1),
            ("max_duration_s", 9),
            ("max_duration_s", 86_401),
            ("language", "English"),
            ("stt_provider", "openai"),
            ("llm_settings", []),
            ("tts_settings", "fast"),
        ],
    )
    def test_values_out_of_bounds_are_refused_on_their_field(self, field, value):
        profile = PromptProfile(name="x", slug="x", system_prompt="x", **{field: value})
        with pytest.raises(ValidationError) as caught:
            profile.full_clean()
        assert list(caught.value.message_dict) == [field]

    def test_every_field_explains_itself(self):
        fields = [f for f in PromptProfile._meta.concrete_fields if f.name != "id"]
        assert [f.name for f in fields if not f.help_text] == []

    def test_the_snapshot_outlives_edits(self):
        profile = make_profile("sales", llm_settings={"stop": ["a"]})
        taken = profile.snapshot()
        profile.llm_settings["stop"].append("b")
        assert taken["llm_settings"] == {"stop": ["a"]}
        assert taken["slug"] == "sales"
        assert not {"id", "is_default", "is_published", "created_at", "updated_at"} & taken.keys()

    def test_calls_get_published_profiles_only(self):
        make_profile("draft", is_published=False)
        sales = make_profile("sales")
        assert PromptProfile.objects.for_call("sales") == sales
        assert PromptProfile.objects.for_call("draft") is None
        assert PromptProfile.objects.for_call("no\x00ne") is None
        assert list(PromptProfile.objects.published()) == [sales]

    def test_without_a_default_the_oldest_published_one_serves(self):
        make_profile("draft", is_published=False)
        oldest = make_profile("z-oldest")
        make_profile("a-newer")
        assert PromptProfile.objects.default() == oldest

    def test_no_published_profile_is_an_error(self):
        make_profile("draft", is_published=False)
        with pytest.raises(PromptProfile.DoesNotExist):
            PromptProfile.objects.default()

    def test_the_first_profile_is_created_once(self):
        assert PromptProfile.objects.ensure_default()
        assert not PromptProfile.objects.ensure_default()
        profile = PromptProfile.objects.get()
        profile.full_clean()
        assert (profile.name, profile.slug, profile.is_default) == ("Receptionist", "default", True)

    def test_no_profile_is_added_to_those_there_are(self):
        make_profile("draft", is_published=False)
        assert not PromptProfile.objects.ensure_default()


class TestStart:
    def test_starting_again_changes_nothing(self, make_call):
        first = make_call(caller="Ann")
        finish(first)
        again = make_call(id=first.id, caller="Bob")
        assert (again.caller, again.status) == ("Ann", "completed")
        assert CallSession.objects.count() == 1

    def test_texts_no_column_or_database_takes_are_made_to_fit(self, make_call):
        session = make_call(
            caller="a" * 300, callee="x\x00y", metadata={"k\x00": ["\ud800", float("nan"), {"n": 1}]}
        )
        session.refresh_from_db()
        assert session.caller == "a" * 255
        assert session.callee == "xy"
        assert session.metadata == {"k": ["?", None, {"n": 1}]}

    def test_a_profile_deleted_meanwhile_leaves_the_call_without_one(self, make_call):
        profile = make_profile("gone")
        kept = make_call(profile_id=profile.id)
        gone_id = profile.id
        profile.delete()
        assert make_call(profile_id=gone_id).profile is None
        kept.refresh_from_db()
        assert kept.profile is None


class TestDescribe:
    def test_what_is_told_later_replaces_what_was_told(self, make_call):
        session = make_call(caller="Ann")
        told = {"room_id": "r" * 300, "caller": "Bob\x00", "callee": "", "metadata": {"n": float("nan")}}
        assert CallSession.objects.describe(session.id, **told, client_configs={"llm": {}})
        session.refresh_from_db()
        assert (session.room_id, session.caller, session.callee) == ("r" * 255, "Bob", "")
        assert (session.metadata, session.client_configs) == ({"n": None}, {"llm": {}})
        assert not CallSession.objects.describe(uuid4(), **told, client_configs={})


class TestFinish:
    def test_the_first_to_finish_wins(self, make_call):
        session = make_call()
        assert finish(session)
        assert not finish(session, status="failed", end_reason="error", error="late")
        session.refresh_from_db()
        assert (session.status, session.end_reason, session.error) == ("completed", "disconnect", "")
        assert (session.audio_in_s, session.audio_out_s) == (10.0, 4.5)
        assert session.client_generation == "seed"
        assert session.duration == timedelta(seconds=10)

    def test_turns_and_latencies_are_summed_up(self, make_call):
        session, other = make_call(), make_call()
        latencies = [
            {},
            {"turn_latency": 900},
            {"turn_latency": None},
            {"turn_latency": 400.6},
            {"turn_latency": 500},
        ]
        Turn.objects.record(turn_row(session.id, i, latency=parts) for i, parts in enumerate(latencies))
        Turn.objects.record([turn_row(other.id, 0, latency={"turn_latency": 5000})])
        finish(session)
        session.refresh_from_db()
        totals = (session.turn_count, session.median_latency_ms, session.worst_latency_ms)
        assert totals == (5, 500, 900)

    def test_a_silent_call_has_no_latency(self, make_call):
        session = make_call()
        finish(session)
        session.refresh_from_db()
        totals = (session.turn_count, session.median_latency_ms, session.worst_latency_ms)
        assert totals == (0, None, None)

    @pytest.mark.parametrize("wrong", [{"status": "active"}, {"status": "done"}, {"end_reason": "bored"}])
    def test_a_wrong_ending_is_refused(self, make_call, wrong):
        session = make_call()
        with pytest.raises(ValueError, match=next(iter(wrong.values()))):
            finish(session, **wrong)
        session.refresh_from_db()
        assert session.is_active

    def test_an_unknown_call_is_not_finished(self, make_call):
        session = make_call()
        session.id = uuid4()
        assert not finish(session)


class TestCloseOrphans:
    def test_only_this_nodes_active_calls_are_closed(self, make_call):
        now = timezone.now()
        mine, done = make_call(node="a", started_at=now), make_call(node="a", started_at=now)
        other = make_call(node="b", started_at=now)
        finish(done)
        Turn.objects.record(
            [
                turn_row(mine.id, 0, latency={"turn_latency": 300}),
                turn_row(mine.id, 1, start_ms=2500, end_ms=4000),
                turn_row(mine.id, 2, start_ms=3900) | {"end_ms": None},
            ]
        )
        assert CallSession.objects.close_orphans("a") == 1
        for session in (mine, done, other):
            session.refresh_from_db()
        assert (mine.status, mine.end_reason) == ("interrupted", "crash")
        assert mine.ended_at == mine.started_at + timedelta(seconds=4)
        assert (mine.turn_count, mine.median_latency_ms, mine.worst_latency_ms) == (3, 300, 300)
        assert (done.status, other.status) == ("completed", "active")

    def test_a_day_old_call_is_closed_whoever_ran_it(self, make_call):
        old = make_call(node="b", started_at=timezone.now() - timedelta(hours=24, seconds=1))
        young = make_call(node="b", started_at=timezone.now() - timedelta(hours=23))
        assert CallSession.objects.close_orphans("a") == 1
        assert list(CallSession.objects.active()) == [young]
        old.refresh_from_db()
        assert old.ended_at == old.started_at


class TestTurns:
    def test_recording_again_overwrites(self, make_call):
        session = make_call()
        Turn.objects.record([turn_row(session.id, 0, text="hel"), turn_row(session.id, 1, "agent", "yes")])
        Turn.objects.record(
            [turn_row(session.id, 0, text="hello th"), turn_row(session.id, 0, text="hello there")]
        )
        assert [turn.text for turn in session.turns.all()] == ["hello there", "yes"]

    def test_recording_again_overwrites_every_field(self, make_call):
        session = make_call(said=[("caller", "hel")])
        row = turn_row(session.id, 0, "agent", "other", start_ms=7, interrupted=True, language="de")
        row |= {"end_ms": None, "latency": {"stt": 5}}
        Turn.objects.record([row])
        assert Turn.objects.values(*row).get() == row

    def test_one_statement_writes_them(self, make_call, django_assert_num_queries):
        session = make_call()
        rows = [turn_row(session.id, i) for i in range(20)]
        with transaction.atomic(), django_assert_num_queries(1):
            Turn.objects.record(rows)
        Turn.objects.record([])
        assert session.turns.count() == 20

    def test_what_no_database_takes_is_cleaned(self, make_call):
        session = make_call()
        Turn.objects.record([turn_row(session.id, 0, text="a\x00b\ud800", latency={"stt": float("inf")})])
        turn = session.turns.get()
        assert (turn.text, turn.latency) == ("ab?", {"stt": None})

    def test_the_database_refuses_a_second_turn_of_one_index(self, make_call):
        session = make_call(said=[("caller", "one")])
        with pytest.raises(IntegrityError), transaction.atomic():
            Turn.objects.create(session=session, index=0, speaker="agent", start_ms=0)


class TestEvents:
    def test_they_come_back_in_the_order_of_time(self, make_call):
        session = make_call()
        CallEvent.objects.record(
            {"session_id": session.id, "ms": ms, "kind": "error", "detail": {"message": text}}
            for ms, text in [(900, "second"), (100, "first\x00")]
        )
        assert [event.message for event in session.events.all()] == ["first", "second"]
        assert str(session.events.first()) == "Error: first"


class TestFinding:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("OPENING hours", ["said"]),
            ("  opening \n hours ", ["said"]),
            ("hours opening", ["said"]),
            ('"hours opening"', []),
            ("no no no", ["accents"]),
            ("it’s ÉCLAIR", ["accents"]),
            ("its a GRÖSSE", ["accents"]),
            ("?", []),
            ("%", []),
            ("anna", ["caller"]),
            ("warehouse", ["callee"]),
            ("blue-room", ["room"]),
            ("nothing like it", []),
            ("\x00", ["said", "accents", "caller", "callee", "room"]),
        ],
    )
    def test_search(self, make_call, text, found):
        calls = {
            "said": make_call(
                said=[("caller", "your opening hours?"), ("agent", "Opening hours are nine to five")]
            ),
            "accents": make_call(said=[("caller", "No, no, no. It's éclair; it’s a Größe")]),
            "caller": make_call(caller="Anna"),
            "callee": make_call(callee="warehouse"),
            "room": make_call(room_id="blue-room-1"),
        }
        result = CallSession.objects.search(text)
        assert sorted(call.id for call in result) == sorted(calls[name].id for name in found)

    def test_days_are_whole_and_in_the_current_time_zone(self, make_call):
        late = make_call(started_at=datetime(2026, 3, 4, 23, 30, tzinfo=UTC))
        early = make_call(started_at=datetime(2026, 3, 5, 0, 0, tzinfo=UTC))
        fourth, fifth = date(2026, 3, 4), date(2026, 3, 5)
        between = CallSession.objects.started_between
        assert list(between(fourth, fourth)) == [late]
        assert list(between(fifth, None)) == [early]
        assert list(between(None, fifth)) == [early, late]
        with timezone.override("Europe/Berlin"):
            assert list(between(fifth, fifth)) == [early, late]

    def test_only_those_with_the_permission_find_calls(self, make_call, admin, analyst, outsider):
        make_call()
        root = User.objects.create_superuser("root")
        seen = [
            CallSession.objects.for_analyst(user).count()
            for user in (admin, analyst, root, outsider, AnonymousUser())
        ]
        assert seen == [1, 1, 1, 0, 0]


def test_groups_come_with_their_permissions():
    view = {"view_promptprofile", "view_callsession", "view_turn", "view_callevent"}
    manage = {"add_promptprofile", "change_promptprofile", "delete_promptprofile"}
    permissions = {
        group.name: set(group.permissions.values_list("codename", flat=True)) for group in Group.objects.all()
    }
    assert permissions == {"Admins": view | manage, "Analysts": view}


def test_json_too_deep_to_store_is_cut():
    deep = value = []
    for _ in range(5000):
        value.append([])
        value = value[0]
    stored, depth = storable_json(deep), 0
    while stored:
        stored, depth = stored[0], depth + 1
    assert depth == MAX_DEPTH + 1


def test_other_objects_are_stored_as_their_text():
    number = uuid4()
    assert storable_json({1: (number, True)}) == {"1": [str(number), True]}
    assert storable_text("naïve ☎ 電話") == "naïve ☎ 電話"
