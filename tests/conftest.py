"""What several tests share: private services, the three personas, and stored calls."""

from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User

from calls.models import CallSession, Turn
from calls.process import State, this_process

pytest_plugins = ["tests.services"]

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


def persona(name, group=None, **fields):
    user = User.objects.create_user(name, password=PASSWORD, **fields)
    if group:
        user.groups.add(Group.objects.get(name=group))
    return user


@pytest.fixture
def admin(db):
    """Manages profiles and sees calls, through the group Admins."""
    return persona("admin", "Admins", is_staff=True)


@pytest.fixture
def analyst(db):
    """Sees calls, through the group Analysts."""
    return persona("analyst", "Analysts")


@pytest.fixture
def outsider(db):
    """Can log in and see nothing."""
    return persona("outsider")


@pytest.fixture
def make_call(db):
    """Make an active call; `said` lists its turns as (speaker, text), other fields are the session's."""
    numbers = count(1)

    def make(*, said=(), latency=None, **fields):
        number = next(numbers)
        start = {
            "id": uuid4(),
            "room_id": f"room-{number}",
            "profile_id": None,
            "config": {},
            "client_configs": {},
            "caller": f"+1555000{number:04}",
            "callee": "support",
            "metadata": {},
            "started_at": STARTED_AT,
            "remote_address": "127.0.0.1",
            "node": "test:1",
        }
        session = CallSession.objects.start(**start | fields)
        Turn.objects.record(turn_row(session.id, i, *words, latency=latency) for i, words in enumerate(said))
        return session

    return make


def turn_row(session_id, index, speaker="caller", text="hello", **fields):
    """A turn one second long, `index` seconds after the call's start."""
    row = {
        "session_id": session_id,
        "index": index,
        "speaker": speaker,
        "text": text,
        "start_ms": index * 1000,
        "end_ms": index * 1000 + 900,
        "interrupted": False,
        "language": "en",
        "latency": {},
    }
    return row | {name: value for name, value in fields.items() if value is not None}
