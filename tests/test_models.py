from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError
from django.utils import timezone

from calls import process
from calls.models import (
    CallEvent,
    CallProgress,
    CallSession,
    Description,
    EventRow,
    Failure,
    Node,
    NodeState,
    ProfileVersion,
    PromptProfile,
    ProviderAccount,
    Turn,
    VersionIsImmutable,
)
from calls.models.numbers import normalised
from calls.models.sealing import Unreadable
from calls.models.storable import MAX_DEPTH, columns, one_line, storable_json, storable_text
from tests.conftest import end_row, event_row, node_row, publish_profile, turn_row

pytestmark = pytest.mark.django_db


def finish(session, **fields):
    return CallSession.objects.finish(end_row(session.id, **fields))


class TestPromptProfile:
    def test_a_new_default_takes_over_from_the_old_one(self):
        old, new = publish_profile("old", is_default=True), publish_profile("new")
        new.is_default = True
        new.full_clean()
        new.save()
        old.refresh_from_db()
        assert not old.is_default
        assert PromptProfile.objects.default().profile == new

    def test_saving_other_fields_of_a_stale_default_leaves_the_new_one(self):
        stale = publish_profile("old", is_default=True)
        new = publish_profile("new", is_default=True)
        stale.name = "renamed"
        stale.save(update_fields=["name"])
        new.refresh_from_db()
        assert new.is_default

    def test_the_database_refuses_two_defaults(self):
        publish_profile("first", is_default=True)
        publish_profile("second")
        with pytest.raises(IntegrityError), transaction.atomic():
            PromptProfile.objects.filter(slug="second").update(is_default=True)

    def test_an_unpublished_profile_cannot_be_the_default(self):
        profile = PromptProfile(name="x", slug="x", system_prompt="x", is_default=True)
        with pytest.raises(ValidationError) as caught:
            profile.full_clean()
        assert list(caught.value.message_dict) == ["is_default"]
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

    def test_calls_get_published_profiles_only(self):
        PromptProfile.objects.create(name="draft", slug="draft")
        sales, retired = publish_profile("sales"), publish_profile("retired")
        PromptProfile.objects.filter(pk=retired.pk).update(is_published=False)
        assert PromptProfile.objects.for_call("sales").profile == sales
        for slug in ("draft", "retired", "no\x00ne"):
            assert PromptProfile.objects.for_call(slug) is None
        assert list(PromptProfile.objects.usable()) == [sales]

    def test_without_a_default_the_oldest_published_one_serves(self):
        PromptProfile.objects.create(name="draft", slug="draft")
        oldest = publish_profile("z-oldest")
        publish_profile("a-newer")
        assert PromptProfile.objects.default().profile == oldest

    def test_no_published_profile_is_an_error(self):
        PromptProfile.objects.create(name="draft", slug="draft")
        with pytest.raises(PromptProfile.DoesNotExist):
            PromptProfile.objects.default()

    def test_the_first_profile_is_created_once(self):
        version = PromptProfile.objects.ensure_default()
        assert PromptProfile.objects.ensure_default() is None
        assert PromptProfile.objects.default() == version
        profile = PromptProfile.objects.get()
        profile.full_clean()
        assert (profile.name, profile.slug, profile.is_default) == ("Receptionist", "default", True)

    def test_no_profile_is_added_to_those_there_are(self):
        PromptProfile.objects.create(name="draft", slug="draft")
        assert not PromptProfile.objects.ensure_default()


class TestAProfilesLife:
    def test_an_old_version_is_restored_as_the_draft(self):
        profile = publish_profile("sales", greeting="One", llm_settings={"temperature": 0.5})
        first = profile.versions.get()
        profile.greeting, profile.llm_settings = "Two", {}
        profile.save()
        profile.publish()
        profile.restore(first)
        profile.refresh_from_db()
        assert (profile.greeting, profile.llm_settings) == ("One", {"temperature": 0.5})
        assert PromptProfile.objects.for_call("sales").configuration["greeting"] == "Two"
        profile.llm_settings["temperature"] = 1
        assert first.configuration["llm_settings"] == {"temperature": 0.5}
        assert (profile.publish().number, profile.publish().number) == (3, 3)

    def test_a_version_of_before_a_field_is_restored_with_its_default(self):
        profile = publish_profile("sales", max_duration_s=60)
        old = profile.configuration()
        del old["max_duration_s"]
        profile.restore(ProfileVersion.objects.create(profile=profile, number=2, configuration=old))
        assert profile.max_duration_s == 3600

    def test_a_duplicate_is_a_draft_with_a_name_of_its_own(self):
        profile = publish_profile("sales", name="S" * 80, greeting="Hi", is_default=True)
        first, second = profile.duplicate(), profile.duplicate()
        assert (first.slug, second.slug) == ("sales-2", "sales-3")
        assert first.name == f"Copy of {'S' * 72}"
        assert first.configuration() == profile.configuration()
        assert (first.is_published, first.is_default, first.versions.count()) == (False, False, 0)
        first.full_clean()

    def test_a_free_slug_fits_its_column(self):
        PromptProfile.objects.create(name="x", slug="x" * 80)
        assert PromptProfile.objects.free_slug("x" * 80) == "x" * 76 + "-2"
        assert PromptProfile.objects.free_slug("y") == "y"

    def test_an_archived_profile_answers_no_call_until_it_is_published_again(self):
        publish_profile("night")
        profile = publish_profile("sales", is_default=True)
        profile.archive()
        assert PromptProfile.objects.for_call("sales") is None
        assert PromptProfile.objects.default().profile.slug == "night"
        assert [each.slug for each in PromptProfile.objects.in_use()] == ["night"]
        profile.unarchive()
        assert profile in PromptProfile.objects.in_use()
        assert PromptProfile.objects.for_call("sales") is None
        profile.archive()
        assert profile.publish() == PromptProfile.objects.for_call("sales")
        assert profile.archived_at is None

    def test_the_database_refuses_an_archived_profile_that_is_published(self):
        profile = publish_profile("sales")
        with pytest.raises(IntegrityError), transaction.atomic():
            PromptProfile.objects.filter(pk=profile.pk).update(archived_at=profile.created_at)

    def test_every_change_is_a_revision(self):
        """Also one that another profile makes: it takes the default away."""
        profile = PromptProfile.objects.create(name="a", slug="a", system_prompt="x")
        revisions = [profile.revision]

        def noted(change):
            change()
            assert PromptProfile.objects.get(pk=profile.pk).revision > revisions[-1]
            profile.refresh_from_db()
            revisions.append(profile.revision)

        noted(profile.save)
        noted(lambda: profile.save(update_fields=["name"]))
        noted(profile.publish)
        profile.is_default = True
        noted(profile.save)
        noted(lambda: publish_profile("b", is_default=True))
        noted(profile.archive)
        noted(profile.unarchive)
        noted(lambda: profile.restore(profile.versions.get()))

    def test_the_draft_has_changes_until_it_is_published(self):
        profile = PromptProfile.objects.create(name="a", slug="a", system_prompt="x")
        assert profile.has_changes
        profile.publish()
        assert not profile.has_changes
        profile.greeting = "Hi"
        assert profile.has_changes
        profile.name = "Renamed"
        profile.greeting = ""
        assert not profile.has_changes


class TestProfileVersion:
    def test_publishing_numbers_the_versions_and_keeps_what_they_said(self):
        author = User.objects.create_user("ann")
        profile = publish_profile("sales", llm_settings={"stop": ["a"]})
        profile.llm_settings["stop"].append("b")
        profile.save()
        second = profile.publish(author=author, note="n" * 300)
        first = profile.versions.get(number=1)
        assert (first.configuration["llm_settings"], first.author) == ({"stop": ["a"]}, None)
        assert second.configuration["llm_settings"] == {"stop": ["a", "b"]}
        assert (second.number, second.author, second.note) == (2, author, "n" * 200)
        assert PromptProfile.objects.for_call("sales") == second
        assert str(second) == "sales, version 2"

    def test_the_whole_draft_is_published_and_only_when_saved(self):
        profile = publish_profile("sales")
        profile.greeting = "not saved"
        names = {field.name for field in PromptProfile._meta.concrete_fields}
        identity = {
            "id", "name", "slug", "is_default", "is_published", "archived_at", "revision",
            "created_at", "updated_at", "split_version", "split_percent",
        }  # fmt: skip
        version = profile.publish()
        assert version.configuration.keys() == (names - identity) | {"schema"}
        assert (version.configuration["schema"], version.configuration["greeting"]) == (2, "")

    def test_an_equal_draft_publishes_nothing(self):
        profile = publish_profile("sales")
        PromptProfile.objects.filter(pk=profile.pk).update(name="Renamed", slug="renamed")
        assert profile.publish().number == 1
        assert ProfileVersion.objects.count() == 1

    def test_publishing_makes_a_draft_available(self):
        draft = PromptProfile.objects.create(name="draft", slug="draft", system_prompt="x")
        version = draft.publish()
        assert draft.is_published
        assert PromptProfile.objects.for_call("draft") == version

    def test_fields_added_since_it_was_published_have_their_defaults(self):
        """Versions never change: a new field of profiles is in none of those that are published."""
        profile = publish_profile("sales", greeting="Hi")
        old = profile.configuration()
        del old["max_duration_s"]
        version = ProfileVersion.objects.create(profile=profile, number=2, configuration=old)
        assert version.in_full() == profile.configuration()
        assert profile.publish() == version

    def test_a_version_never_changes(self):
        version = publish_profile("sales").versions.get()
        versions = ProfileVersion.objects.filter(pk=version.pk)
        version.note = "changed"
        for change in (
            version.save, version.delete, versions.delete, lambda: versions.update(note="x"),
            lambda: ProfileVersion.objects.bulk_update([version], ["note"]),
        ):  # fmt: skip
            with pytest.raises(VersionIsImmutable), transaction.atomic():
                change()
        assert ProfileVersion.objects.get().note == ""

    def test_its_author_can_be_deleted(self):
        author = User.objects.create_user("ann")
        profile = publish_profile("sales")
        PromptProfile.objects.update(greeting="Hi")
        version = profile.publish(author=author)
        author.delete()
        version.refresh_from_db()
        assert version.author is None

    def test_the_database_refuses_a_number_twice(self):
        profile = publish_profile("sales")
        with pytest.raises(IntegrityError), transaction.atomic():
            ProfileVersion.objects.create(profile=profile, number=1, configuration={})

    def test_a_profile_goes_with_its_versions_unless_a_call_used_it(self, make_call):
        used, unused = publish_profile("used"), publish_profile("unused")
        make_call(profile=used)
        unused.delete()
        with pytest.raises(ProtectedError):
            used.delete()
        assert [version.profile for version in ProfileVersion.objects.all()] == [used]


class TestStart:
    def test_a_call_has_its_version_and_that_ones_profile(self, make_call):
        profile = publish_profile("sales")
        session = make_call(profile=profile)
        PromptProfile.objects.update(greeting="Hi")
        profile.publish()
        session.refresh_from_db()
        assert (session.version.number, session.profile) == (1, profile)

    def test_a_process_that_is_not_stored_is_left_out(self, make_call):
        row = node_row()
        Node.objects.renew(row)
        assert make_call(node_id=row.id).node_id == row.id
        assert make_call(node_id=uuid4()).node_id is None

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
        profile = publish_profile("gone")
        version_id = profile.versions.get().pk
        profile.delete()
        session = make_call(version_id=version_id)
        assert (session.version, session.profile) == (None, None)


class TestDescribe:
    def test_what_is_told_later_replaces_what_was_told(self, make_call):
        session = make_call(caller="Ann")
        told = Description("r" * 300, "Bob\x00", "", {"n": float("nan")}, {"llm": {}})
        assert CallSession.objects.describe(session.id, told)
        session.refresh_from_db()
        assert (session.room_id, session.caller, session.callee) == ("r" * 255, "Bob", "")
        assert (session.metadata, session.client_configs) == ({"n": None}, {"llm": {}})
        assert list(CallSession.objects.of_caller("BOB")) == [session]
        assert not CallSession.objects.describe(uuid4(), told)

    def test_what_answers_is_stored_once_it_is_known(self, make_call):
        session = make_call()
        assert CallSession.objects.answered_by(session.id, {"tts": {"settings": {"speed": float("inf")}}})
        session.refresh_from_db()
        assert session.in_force == {"tts": {"settings": {"speed": None}}}
        assert not CallSession.objects.answered_by(uuid4(), {})


class TestGoOn:
    def test_how_far_a_call_has_got_is_stored_while_it_lasts(self, make_call):
        session, now = make_call(), timezone.now()
        for seconds in (5.0, 10.0):
            assert CallSession.objects.go_on(session.id, CallProgress(seconds, 1.5, "new", now))
        session.refresh_from_db()
        assert (session.audio_in_s, session.audio_out_s, session.last_audio_at) == (10.0, 1.5, now)
        assert session.client_generation == "new"
        finish(session)
        assert not CallSession.objects.go_on(session.id, CallProgress(1.0, 1.0, "free", now))
        assert not CallSession.objects.go_on(uuid4(), CallProgress(1.0, 1.0, "free", now))


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
        latencies = [None, 900, None, 401, 500]
        Turn.objects.record(turn_row(session.id, i, total_ms=ms) for i, ms in enumerate(latencies))
        Turn.objects.record([turn_row(other.id, 0, total_ms=5000)])
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

    def test_the_real_end_of_a_call_taken_for_dead_wins(self, make_call):
        session = make_call(started_at=timezone.now() - timedelta(hours=25))
        assert CallSession.objects.close_orphans() == [session.id]
        assert finish(session, error="late")
        assert not finish(session, status="failed", end_reason="error")
        session.refresh_from_db()
        assert (session.status, session.end_reason, session.error) == ("completed", "disconnect", "late")


@pytest.fixture
def make_node(db):
    """Make a node that was seen so many seconds ago."""

    def make(seen_s_ago=0, **fields):
        row = node_row(**fields)
        Node.objects.renew(row)
        Node.objects.filter(pk=row.id).update(seen_at=timezone.now() - timedelta(seconds=seen_s_ago))
        return Node.objects.get(pk=row.id)

    return make


class TestNodes:
    def test_renewing_stores_what_the_process_says_and_begins_the_lease_anew(self, make_node):
        node = make_node(seen_s_ago=60)
        started_at = node.started_at
        Node.objects.renew(node_row(node.id, name="b:2", address="h", capacity=7, calls=3, state="draining"))
        node.refresh_from_db()
        facts = (node.name, node.address, node.capacity, node.calls, node.state)
        assert facts == ("b:2", "h", 7, 3, "draining")
        assert timezone.now() - node.seen_at < timedelta(seconds=20)
        assert node.started_at == started_at
        assert str(node) == "b:2"

    def test_its_states_are_those_of_a_process(self):
        assert NodeState.values == [state.value for state in process.State]

    def test_a_node_is_gone_when_it_stopped_or_its_lease_lapsed(self, make_node):
        make_node(), make_node(seen_s_ago=20), make_node(state="draining")
        lapsed, stopped = make_node(seen_s_ago=31), make_node(calls=2)
        assert Node.objects.stop(stopped.id)
        assert not Node.objects.stop(uuid4())
        assert set(Node.objects.gone()) == {lapsed, stopped}
        stopped.refresh_from_db()
        assert (stopped.state, stopped.calls) == ("stopped", 0)

    def test_a_week_later_those_without_calls_are_forgotten(self, make_node, make_call):
        week = 7 * 24 * 3600
        young, used, _old = make_node(week - 60), make_node(week + 60), make_node(week + 60)
        make_call(node_id=used.id)
        assert Node.objects.prune() == 1
        assert set(Node.objects.all()) == {young, used}


class TestCloseOrphans:
    def test_calls_of_lapsed_nodes_are_closed_with_their_last_turn(self, make_call, make_node):
        now = timezone.now()
        dead, alive = make_node(seen_s_ago=31), make_node()
        lost, done, other = (make_call(node_id=node.id, started_at=now) for node in (dead, dead, alive))
        finish(done)
        Turn.objects.record(
            [
                turn_row(lost.id, 0, total_ms=300),
                turn_row(lost.id, 1, start_ms=2500, end_ms=4000),
                turn_row(lost.id, 2, start_ms=3900, end_ms=None),
            ]
        )
        CallEvent.objects.record([event_row(lost.id), event_row(lost.id)])
        assert CallSession.objects.close_orphans() == [lost.id]
        assert CallSession.objects.close_orphans() == []
        for session in (lost, done, other):
            session.refresh_from_db()
        assert (lost.status, lost.end_reason, lost.error_count) == ("interrupted", "crash", 2)
        assert lost.ended_at == lost.started_at + timedelta(seconds=4)
        assert (lost.turn_count, lost.median_latency_ms, lost.worst_latency_ms) == (3, 300, 300)
        assert (done.status, other.status) == ("completed", "active")

    @pytest.mark.parametrize(("last_audio_s", "ended_s"), [(7, 7), (2, 4)])
    def test_a_call_whose_server_died_keeps_what_was_known(self, make_call, make_node, last_audio_s, ended_s):
        node = make_node(seen_s_ago=31)
        lost = make_call(node_id=node.id, started_at=timezone.now() - timedelta(seconds=60))
        last_audio_at = lost.started_at + timedelta(seconds=last_audio_s)
        CallSession.objects.go_on(lost.id, CallProgress(6.5, 2.0, "seed", last_audio_at))
        Turn.objects.record([turn_row(lost.id, 0, start_ms=2500, end_ms=4000)])
        assert CallSession.objects.close_orphans() == [lost.id]
        lost.refresh_from_db()
        assert (lost.audio_in_s, lost.audio_out_s, lost.client_generation) == (6.5, 2.0, "seed")
        assert lost.duration == timedelta(seconds=ended_s)

    def test_a_process_of_the_same_name_closes_nothing(self, make_call, make_node):
        running = make_node(name="agent-1")
        make_call(node_id=running.id, started_at=timezone.now())
        make_node(name="agent-1")
        assert CallSession.objects.close_orphans() == []

    def test_a_day_old_call_is_closed_unless_a_node_runs_it(self, make_call, make_node):
        day = timezone.now() - timedelta(hours=24, seconds=1)
        old, run = make_call(started_at=day), make_call(started_at=day, node_id=make_node().id)
        young = make_call(started_at=timezone.now() - timedelta(hours=23))
        assert CallSession.objects.close_orphans() == [old.id]
        assert {*CallSession.objects.active()} == {run, young}
        old.refresh_from_db()
        assert old.ended_at == old.started_at

    def test_a_node_whose_clock_is_wrong_closes_and_erases_nothing(self, make_call, make_node, monkeypatch):
        now = timezone.now()
        make_call(started_at=now)
        CallSession.objects.update(expires_at=now + timedelta(hours=1))
        monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=25))
        assert CallSession.objects.close_orphans() == []
        assert not CallSession.objects.expired().exists()


class TestErasing:
    def test_nothing_of_a_call_is_left_and_nothing_else_goes(self, make_call):
        calls = [make_call(said=[("caller", "hi"), ("agent", "yes")]) for _ in range(3)]
        for call in calls:
            CallEvent.objects.record([event_row(call.id)])
        for call in calls[:2]:
            finish(call)
        ids = [calls[0].id, calls[2].id, uuid4()]
        assert CallSession.objects.erase(ids) == 1, "an active call is left"
        for model, left in ((CallSession, 2), (Turn, 4), (CallEvent, 2)):
            assert model.objects.count() == left
        assert not Turn.objects.filter(session_id=calls[0].id).exists()

    def test_many_are_erased_in_parts(self, make_call, monkeypatch):
        monkeypatch.setattr("calls.models.session.ERASED_AT_ONCE", 2)
        calls = [make_call() for _ in range(5)]
        for call in calls:
            finish(call)
        assert CallSession.objects.erase(call.id for call in calls) == 5

    def test_those_whose_time_has_come_are_found(self, make_call):
        now = timezone.now()
        due, later, _never = make_call(), make_call(), make_call()
        CallSession.objects.filter(pk=due.pk).update(expires_at=now - timedelta(seconds=1))
        CallSession.objects.filter(pk=later.pk).update(expires_at=now + timedelta(hours=1))
        assert list(CallSession.objects.expired()) == [due]


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
        latency = {"end_of_turn_ms": 1, "stt_ms": 2, "llm_ms": 3, "tts_ms": 4, "total_ms": 5}
        row = turn_row(
            session.id, 0, "agent", "other", start_ms=7, end_ms=None, interrupted=True, language="de",
            final=False, **latency,
        )  # fmt: skip
        Turn.objects.record([row])
        assert Turn.objects.values(*asdict(row)).get() == asdict(row)

    def test_one_statement_writes_them(self, make_call, django_assert_num_queries):
        session = make_call()
        rows = [turn_row(session.id, i) for i in range(20)]
        with transaction.atomic(), django_assert_num_queries(1):
            Turn.objects.record(rows)
        Turn.objects.record([])
        assert session.turns.count() == 20

    def test_what_no_database_takes_is_cleaned(self, make_call):
        session = make_call()
        Turn.objects.record([turn_row(session.id, 0, text="a\x00b\ud800", language="x" * 30)])
        turn = session.turns.get()
        assert (turn.text, turn.language) == ("ab?", "x" * 20)

    def test_the_database_refuses_a_second_turn_of_one_index(self, make_call):
        session = make_call(said=[("caller", "one")])
        with pytest.raises(IntegrityError), transaction.atomic():
            Turn.objects.create(session=session, index=0, speaker="agent", start_ms=0)


class TestEvents:
    def test_they_come_back_in_the_order_of_time(self, make_call):
        session = make_call()
        rows = [event_row(session.id, text, ms=ms) for ms, text in [(900, "second"), (100, "first\x00")]]
        CallEvent.objects.record(rows)
        assert [event.message for event in session.events.all()] == ["first", "second"]
        assert str(session.events.first()) == "Error: first"

    def test_every_field_is_stored(self, make_call):
        row = EventRow(
            make_call().id, 7, "provider_failure", "warning", "slow", "stt/cartesia", 3, {"code": 502}
        )
        CallEvent.objects.record([row])
        assert CallEvent.objects.values(*asdict(row)).get() == asdict(row)

    def test_a_call_counts_its_errors_and_keeps_them_all(self, make_call):
        session, other = make_call(), make_call()
        CallEvent.objects.record([event_row(session.id, "no answer", ms=ms) for ms in (50, 20)])
        CallEvent.objects.record(
            [
                event_row(session.id, "refused", ms=30, provider="llm/openai"),
                event_row(session.id, "slow", severity="warning"),
                event_row(session.id, "spoke over it", kind="interruption", severity="info"),
                event_row(other.id, "no answer"),
            ]
        )
        CallEvent.objects.record([])
        session.refresh_from_db()
        assert session.error_count == 3
        assert CallEvent.objects.failures_of(session.pk) == [
            Failure("", "no answer", 2, 20, 50),
            Failure("llm/openai", "refused", 1, 30, 30),
        ]


class TestCallers:
    @pytest.mark.parametrize(
        ("caller", "key"),
        [
            ("+1 (555) 000-1234", "15550001234"),
            ("001 555 0001234", "15550001234"),
            ("sip:+15550001234@pbx.example.org;user=phone", "15550001234"),
            ("<sip:15550001234@10.0.0.1>", "15550001234"),
            ("+49 (0)30 1234", "49301234"),
            ("030/1234", "0301234"),
            ("sip:Anna@pbx", "anna"),
            ("  ANNA  Müller ", "anna müller"),
            ("ß" * 255, "s" * 255),
            ("+", "+"),
            ("", ""),
        ],
    )
    def test_a_caller_is_one_however_it_is_written(self, caller, key):
        assert normalised(caller) == key

    def test_one_callers_calls_are_found(self, make_call):
        calls = [make_call(caller=caller) for caller in ("+1 555 000-1234", "0015550001234", "Ann", "")]
        assert set(CallSession.objects.of_caller("sip:+15550001234@pbx")) == set(calls[:2])
        assert list(CallSession.objects.of_caller("")) == []


class TestAccounts:
    def test_a_key_is_stored_encrypted_and_shown_by_nothing(self, settings):
        account = ProviderAccount(provider="openai", label="Sales")
        account.key = "sk-secret"
        account.save()
        (stored,) = ProviderAccount.objects.values()
        shown = [str(stored), str(account), repr(account)]
        assert not [text for text in shown if "sk-secret" in text]
        assert ProviderAccount.objects.get().key == "sk-secret"
        assert str(account) == "openai (Sales)"

    def test_a_key_outlives_a_change_of_the_secret_key_that_names_the_old_one(self, settings):
        account, old = ProviderAccount(provider="openai"), settings.SECRET_KEY
        account.key = "sk-secret"
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "another", [old]
        assert account.key == "sk-secret"
        settings.SECRET_KEY_FALLBACKS = []
        with pytest.raises(Unreadable):
            _ = account.key
        assert account.has_key

    def test_one_account_of_a_provider_is_enabled(self):
        ProviderAccount.objects.create(provider="openai")
        ProviderAccount.objects.create(provider="openai", is_enabled=False)
        with pytest.raises(IntegrityError), transaction.atomic():
            ProviderAccount.objects.create(provider="openai")

    @pytest.mark.parametrize(("url", "fits"), [("wss://api.cartesia.ai", True), ("ftp://x.org", False)])
    def test_its_address_is_one_that_providers_have(self, url, fits):
        account = ProviderAccount(provider="cartesia", base_url=url)
        with nullcontext() if fits else pytest.raises(ValidationError):
            account.full_clean()


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


def test_a_fact_without_a_column_is_refused():
    @dataclass
    class Row:
        text: str = "a\x00"
        mood: str = "good"

    with pytest.raises(FieldDoesNotExist):
        columns(Turn, Row())


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("\u202e9876543210 tib", "9876543210 tib"),  # would be read from right to left
        ("\u2066Ann\u2069 \u200fB\u061c", "Ann B"),
        ("An\u200bn\ufeff\u00ad\u2060", "Ann"),  # looks like Ann and is not
        ("A\u200dn\u200b\u200cn", "Ann"),
        ("Ann\r\nStatus:\tFailed\u2028\u0085 x\x1b[2J", "Ann Status: Failed x [2J"),
        ("  Ann   Lee ", "Ann Lee"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian needs it
        ("👩\u200d👧 क्\u200dष", "👩\u200d👧 क्\u200dष"),
        ("ÜNAL Éclair 電話 +49 30", "ÜNAL Éclair 電話 +49 30"),
        ("\u200b", ""),
    ],
)
def test_a_name_is_one_line_of_what_is_seen(told, shown):
    assert one_line(told) == shown


def test_names_are_stored_in_one_line_and_texts_as_they_are(make_call):
    hostile = "\u202eA\nB"
    call = make_call(caller=hostile, callee=hostile, room_id=hostile, said=[("caller", hostile)])
    CallEvent.objects.record([event_row(call.id, hostile, provider=hostile)])
    call.refresh_from_db()
    event = CallEvent.objects.get()
    assert {call.caller, call.callee, call.room_id, event.provider} == {"A B"}
    assert {call.turns.get().text, event.message} == {hostile}
    description = Description(room_id="r", caller=hostile, callee="", metadata={}, client_configs={})
    assert CallSession.objects.describe(call.id, description)
    call.refresh_from_db()
    assert call.caller == "A B"
