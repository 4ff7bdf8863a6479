"""Prints a session key of each persona, made anew if need be: `python -m tests.fuzz.personas`."""

import json

import django

django.setup()

from django.conf import settings  # noqa: E402  Django has to be set up first
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY  # noqa: E402
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
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.create()
    return str(session.session_key)


if __name__ == "__main__":
    print(json.dumps({name: "" if name == "nobody" else session_of(name) for name in PERSONAS}))  # noqa: T201
