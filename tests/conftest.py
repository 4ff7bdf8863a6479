"""What several tests share: private services, the three personas, and stored calls."""

import inspect
from datetime import UTC, datetime, timedelta
from importlib import import_module
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.models import Group, Permission, User
from django.db import connections

from calls.models import (
    CallEnd,
    CallSession,
    CallStart,
    Description,
    EventRow,
    NodeRow,
    PromptProfile,
    Turn,
    TurnRow,
)
from calls.process import Load, State, this_process
from calls.providers import clients
from tests.cloud.tls import Authority

pytest_plugins = ["tests.services"]

GROUPS = import_module("calls.migrations.0002_groups").GROUPS
# What Admins may do besides.
PBX = import_module("calls.migrations.0012_pbx").MANAGE
RULES = import_module("calls.migrations.0013_rules_and_manners").MANAGE
PASSWORD = "correct horse battery"
STARTED_AT = datetime(2026, 3, 4, 10, 0, tzinfo=UTC)


@pytest.fixture(scope="session", autouse=True)
def static_root():
    """The folder of collected files: WhiteNoise warns when it is missing, and a warning is an error here."""
    Path(settings.STATIC_ROOT).mkdir(exist_ok=True)


@pytest.fixture(autouse=True)
def accepting(monkeypatch):
    """The process of the tests takes calls, as a server does that has started."""
    monkeypatch.setattr(this_process, "_state", State.ACCEPTING)
    monkeypatch.setattr(this_process, "load", Load())


@pytest.fixture
async def database_thread():
    """At the end of a test, the thread in which it used the database closes its connections."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture
def authority(tmp_path, monkeypatch):
    """Signs the certificates of local servers; the product trusts it and no other meanwhile."""
    made = Authority(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.file))
    clients.tls.cache_clear()
    yield made
    clients.tls.cache_clear()


def pytest_collection_modifyitems(items):
    for item in items:
        if inspect.iscoroutinefunction(getattr(item, "obj", None)):
            item.fixturenames.insert(0, "database_thread")


def persona(name, group=None, **fields):
    user = User.objects.create_user(name, password=PASSWORD, **fields)
    if group:
        user.groups.add(group_of(name=group))
    return user


def group_of(name):
    """The group as migrations make it; made again where a test with transactions has emptied the tables."""
    group, _ = Group.objects.get_or_create(name=name)
    more = [*PBX, *RULES, "direct_callsession"] if name == "Admins" else []
    names = [*GROUPS[name], *more]
    may = Permission.objects.filter(content_type__app_label="calls", codename__in=names)
    group.permissions.add(*may)
    return group


@pytest.fixture
def admin(db):
    """Manages profiles and sees calls, through the group Admins."""
    return persona("admin", "Admins", is_staff=True)


@pytest.fixture
def admin_client(client, admin):
    """A member of the group Admins in Django admin."""
    client.force_login(admin)
    return client


@pytest.fixture
def analyst(db):
    """Sees calls, through the group Analysts."""
    return persona("analyst", "Analysts")


@pytest.fixture
def outsider(db):
    """Can log in and see nothing."""
    return persona("outsider")


def publish_profile(slug, **fields):
    """A profile that calls may use, published."""
    names = {"name": slug, "slug": slug, "system_prompt": "Be brief.", "is_published": True}
    profile = PromptProfile.objects.create(**names | fields)
    profile.publish()
    return profile


def edit_profiles(**fields):
    """Change every profile and publish it as it is then."""
    for profile in PromptProfile.objects.all():
        PromptProfile.objects.filter(pk=profile.pk).update(**fields)
        profile.publish()


@pytest.fixture
def make_call(db):
    """Make an active call; `said` lists its turns as (speaker, text), other fields are the rows'."""
    numbers = count(1)

    def make(*, said=(), profile=None, **fields):
        number = next(numbers)
        told = {
            "room_id": f"room-{number}",
            "caller": f"+1555000{number:04}",
            "callee": "support",
            "metadata": {},
            "client_configs": {},
        }
        told |= {name: fields.pop(name) for name in told if name in fields}
        start = {
            "id": uuid4(),
            "version_id": profile.versions.first().pk if profile else None,
            "description": Description(**told),
            "started_at": STARTED_AT,
            "remote_address": "127.0.0.1",
            "node_id": None,
        }
        session = CallSession.objects.start(CallStart(**start | fields))
        Turn.objects.record(turn_row(session.id, i, *words) for i, words in enumerate(said))
        return session

    return make


def turn_row(session_id, index, speaker="caller", text="hello", **fields):
    """A turn one second long, `index` seconds after the call's start, which nothing is added to."""
    times = {"start_ms": index * 1000, "end_ms": index * 1000 + 900, "language": "en", "final": True}
    return TurnRow(session_id, index, speaker, text, **times | fields)


def event_row(session_id, message="m", *, kind="error", severity="error", ms=5, **fields):
    """An event, an error if nothing else is said."""
    return EventRow(session_id, ms, kind, severity, message, **fields)


def end_row(session_id, **fields):
    """The end of a call of ten seconds in which the client hung up."""
    end = {
        "status": "completed",
        "end_reason": "disconnect",
        "ended_at": STARTED_AT + timedelta(seconds=10),
        "audio_in_s": 10.0,
        "audio_out_s": 4.5,
        "client_generation": "seed",
    }
    return CallEnd(session_id, **end | fields)


def node_row(id=None, **fields):
    """A process that takes calls."""
    now = {"name": "a:1", "address": "127.0.0.1:1", "capacity": None, "calls": 0, "state": "accepting"}
    return NodeRow(id or uuid4(), **now | fields)
