"""Prints a session key of each persona, made anew if need be: `python -m tests.fuzz.personas`."""

import json

import django

django.setup()

from django.contrib.auth import (  # noqa: E402  Django has to be set up first
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
)
from django.contrib.auth.models import Group, User  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402

from tests.fuzz.requests import PERSONAS  # noqa: E402

GROUPS = {"admin": "Admins", "analyst": "Analysts"}


def session_of(name: str) -> str:
    """A session of the persona, whose user is put right."""
    rights = {
        "is_active": True,
        "is_staff": name in ("admin", "superuser"),
        "is_superuser": name == "superuser",
    }
    user, _ = User.objects.update_or_create(username=f"fuzz-{name}", defaults=rights)
    user.groups.set(Group.objects.filter(name=GROUPS.get(name)))
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


if __name__ == "__main__":
    print(json.dumps({name: "" if name == "nobody" else session_of(name) for name in PERSONAS}))  # noqa: T201
