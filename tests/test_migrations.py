"""A database of the first release is brought up to date with all that is in it."""

from contextlib import contextmanager
from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Group
from django.db import connection, connections
from django.db.migrations.executor import MigrationExecutor

from calls.models import (
    CallEvent,
    CallSession,
    Failure,
    Node,
    ProfileVersion,
    PromptProfile,
    ProviderAccount,
    Turn,
)
from calls.models.sealing import seal
from tests.conftest import STARTED_AT

RELEASED = [("calls", "0002_groups")]  # the last migration of 0.1.0
OLD = "released"
CALL, NODE = UUID(int=1), UUID(int=2)
PROFILE = {
    "name": "Sales", "slug": "sales", "is_default": True, "is_published": True, "system_prompt": "Sell.",
    "greeting": "Hello", "llm_provider": "openai", "llm_settings": {"temperature": 0.5},
}  # fmt: skip
CONFIGURATION = {"schema": 1, "system_prompt": "Sell.", "greeting": "Hello", "llm_provider": "openai"}

SEEN = {
    f"view_{model}"
    for model in ("promptprofile", "profileversion", "callsession", "turn", "callevent", "node")
}
MANAGED = {
    f"{verb}_{model}"
    for verb in ("add", "change", "delete", "view")
    for model in ("promptprofile", "provideraccount", "pbx", "pbxroute", "destination", "rule", "calendar")
}


@contextmanager
def another_database(tmp_path):
    """An empty database of the kind the tests run on, as the connection `OLD`."""
    settings = {**connection.settings_dict, "NAME": tmp_path / "released.sqlite3"}
    if connection.vendor == "postgresql":
        settings["NAME"] = "released"
        with connection._nodb_cursor() as cursor:
            cursor.execute("CREATE DATABASE released")
    connections[OLD] = old = type(connections["default"])(settings, OLD)
    try:
        yield old
    finally:
        old.close()
        del connections[OLD]
        if connection.vendor == "postgresql":
            with connection._nodb_cursor() as cursor:
                cursor.execute("DROP DATABASE released")


def fill(apps):
    """A row of each kind, as the release wrote it, by the models of that time."""

    def create(model, **fields):
        return apps.get_model("calls", model).objects.using(OLD).create(**fields)

    profile = create("PromptProfile", **PROFILE)
    version = create("ProfileVersion", profile=profile, number=3, configuration=CONFIGURATION, note="n")
    node = create("Node", id=NODE, name="a:1", seen_at=STARTED_AT)
    create("ProviderAccount", provider="openai", label="Sales", sealed_key=seal("sk-secret"))
    session = create(
        "CallSession", id=CALL, profile=profile, version=version, node=node, room_id="room", caller="+1 555",
        caller_normalised="1555", callee="100", metadata={"a": 1}, client_configs={"llm": None},
        in_force={"stt": {"provider": "local"}}, status="completed", started_at=STARTED_AT,
        ended_at=STARTED_AT + timedelta(seconds=9), end_reason="disconnect", turn_count=1, error_count=1,
        median_latency_ms=700, worst_latency_ms=700, expires_at=STARTED_AT,
    )  # fmt: skip
    create(
        "Turn", session=session, index=0, speaker="caller", text="No, no, no.", folded="no no no",
        start_ms=10, end_ms=900, final=True, language="en", total_ms=700, stt_ms=100,
    )  # fmt: skip
    create(
        "CallEvent", session=session, ms=5, kind="provider_failure", severity="error", message="no answer",
        provider="llm/openai", turn=0, detail={"code": 502},
    )  # fmt: skip


@pytest.mark.django_db(transaction=True)
def test_what_the_first_release_stored_is_there_after_an_upgrade(tmp_path):
    with another_database(tmp_path) as old:
        MigrationExecutor(old).migrate(RELEASED)
        fill(MigrationExecutor(old).loader.project_state(RELEASED).apps)
        executor = MigrationExecutor(old)
        executor.migrate(executor.loader.graph.leaf_nodes())

        call = CallSession.objects.using(OLD).select_related("version", "profile", "node").get()
        assert (call.id, call.caller, call.status, call.turn_count) == (CALL, "+1 555", "completed", 1)
        assert (call.metadata, call.in_force) == ({"a": 1}, {"stt": {"provider": "local"}})
        assert (call.version.number, call.version.configuration) == (3, CONFIGURATION)
        assert (call.profile.slug, call.node.name, call.expires_at) == ("sales", "a:1", STARTED_AT)
        assert call.duration == timedelta(seconds=9)
        assert PromptProfile.objects.using(OLD).default() == call.version
        profile = PromptProfile.objects.using(OLD).values(*PROFILE).get()
        assert profile == PROFILE
        (turn,) = Turn.objects.using(OLD).all()
        assert (turn.text, turn.final, turn.stt_ms, turn.total_ms) == ("No, no, no.", True, 100, 700)
        assert CallEvent.objects.using(OLD).failures_of(call.pk) == [
            Failure("llm/openai", "no answer", 1, 5, 5)
        ]
        assert ProviderAccount.objects.using(OLD).get().key == "sk-secret"
        assert list(CallSession.objects.using(OLD).of_caller("+1 555")) == [call]
        assert list(Node.objects.using(OLD).gone()) == [call.node]
        assert ProfileVersion.objects.using(OLD).count() == 1
        assert list(CallSession.objects.using(OLD).search('"no no"')) == [call]
        assert list(CallSession.objects.using(OLD).search("1555")) == [call]
        assert permissions_of_groups() == {
            "Admins": SEEN | MANAGED | {"direct_callsession"},
            "Analysts": SEEN,
        }


def permissions_of_groups():
    return {
        group.name: set(group.permissions.values_list("codename", flat=True))
        for group in Group.objects.using(OLD).all()
    }
