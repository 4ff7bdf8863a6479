"""Measures the analysts' pages with a million turns stored, on SQLite and on PostgreSQL.

Each database is filled by `manage.py fill`. A process of its own then requests each page with Django's test
client: the time from the request's headers to the last byte of the page, without the network.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from benchmarks.point import environment, scratch

DATABASES = ("sqlite", "postgresql")
TURNS = 1_000_000
WARM_UP = 2  # requests before those that count
REQUESTS = 15
LONG_CALL = 5000  # turns
PROGRAM_S = 1800


def measure(
    turns: int, databases: Sequence[str] = DATABASES, requests: int = REQUESTS
) -> list[dict[str, Any]]:
    """Fill each database and measure the pages; return the figures of each database."""
    results = []
    for name in databases:
        with scratch() as folder, _database(name) as url:
            own = environment(folder) | {"DJANGO_SETTINGS_MODULE": "voiceagent.settings"}
            if url:
                own["DATABASE_URL"] = url
            manage = [sys.executable, "manage.py"]
            _run([*manage, "migrate", "-v0"], own)
            _run([*manage, "collectstatic", "-v0", "--noinput"], own)
            begin = time.monotonic()
            filling = [*manage, "fill", f"--turns={turns}", f"--long={min(LONG_CALL, turns // 2)}"]
            _run(filling, own)
            fill_s = time.monotonic() - begin
            asked = json.loads(_run([sys.executable, "-m", "benchmarks.pages", str(requests)], own))
            results.append({"database": name, "fill_s": round(fill_s), **asked})
    return results


def _run(command: list[str], own: dict[str, str]) -> str:
    """Run one of our programs and return its output; raises CalledProcessError if it fails."""
    done = subprocess.run(  # noqa: S603  our own
        command, env=own, check=True, timeout=PROGRAM_S, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


@contextmanager
def _database(name: str) -> Iterator[str]:
    """Yield the URL of an empty database; "" for SQLite in the data folder."""
    if name == "sqlite":
        yield ""
        return
    from tests.services import private_postgres  # needs the suite's packages

    with private_postgres(durable=True) as url:
        yield url


def _pages() -> dict[str, str]:
    """The paths of the pages, by what they show."""
    from django.db.models import Max

    from calls.models import CallSession, PromptProfile, Turn

    calls = CallSession.objects.order_by("started_at")
    count = calls.count()
    middle, old = calls[count // 2], calls[count // 4]
    ordered = Turn.objects.filter(text__startswith="Your order").order_by("pk")[:1].get()
    order = next(word for word in ordered.text.split() if word.isdigit())
    number = calls.filter(caller__startswith="+49")[:1].get().caller
    profile = PromptProfile.objects.exclude(is_default=True)[:1].get()
    longest = calls.aggregate(most=Max("turn_count"))["most"]
    long_call = calls.filter(turn_count=longest)[:1].get()
    day = middle.started_at.date()
    place = f"{middle.started_at.isoformat()}_{middle.id.hex}".replace("+", "%2B")
    return {
        "the list": "",
        "the list, half a year back": f"before={place}",
        "one profile": f"profile={profile.slug}",
        "failed calls": "status=failed",
        "one day": f"from_date={day}&to_date={day}",
        "failed calls of one profile, up to a day": f"profile={profile.slug}&status=failed&to_date={day}",
        "a word of one turn in 36,000": "q=zebra",
        "a word of every second call": "q=you",
        "the same, failed calls of one profile": f"q=you&profile={profile.slug}&status=failed",
        "a word of one turn in 2,000": "q=typewriter",
        "two words": "q=parcel+found",
        "a phrase": "q=%22opening+hours+on+saturday%22",
        "a phrase nobody said, of common words": "q=%22you+the+is%22",
        "the beginning of a word": "q=harps*",
        "the beginning of common words": "q=s*",
        "a number": f"q={order}",
        "the same in pieces": f"q={order[:2]}+{order[2:5]}+{order[5:]}",
        "the end of a caller's number": f"q={number[-6:]}",
        "a room": f"q={old.room_id}",
        "characters of a Japanese sentence": "q=%E6%B3%A8%E6%96%87",
        "a word nobody said": "q=xylophone",
        "a call": f"/calls/{middle.id}/",
        f"a call of {longest} turns": f"/calls/{long_call.id}/",
        "the same, its middle": f"/calls/{long_call.id}/?turn={longest // 2}",
        "the profiles": "/profiles/",
        "a profile": f"/profiles/{profile.slug}/",
        "its versions": f"/profiles/{profile.slug}/versions/",
        "how its calls went": f"/profiles/{profile.slug}/results/",
    }


def _ask(requests: int) -> dict[str, Any]:
    """Request each page `requests` times; return the times in ms, and how much is stored."""
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.db.models import Max
    from django.test import Client

    from calls.models import CallSession, Turn

    settings.ALLOWED_HOSTS.append("testserver")
    client = Client(raise_request_exception=True)
    client.force_login(get_user_model().objects.get_or_create(username="bench", is_superuser=True)[0])
    rows = []
    for name, address in _pages().items():
        path = address if address.startswith("/") else f"/calls/?{address}"

        def get(path: str = path) -> int:
            response = client.get(path)
            if response.status_code != 200:
                raise RuntimeError(f"{path}: expected 200, got {response.status_code}")
            return len(response.content)

        size = [get() for _ in range(WARM_UP)][-1]
        times = sorted(_timed(get) for _ in range(requests))
        rows.append(
            {
                "page": name,
                "p50_ms": round(statistics.median(times), 1),
                "max_ms": round(times[-1], 1),
                "kb": round(size / 1024),
            }
        )
        sys.stderr.write(f"{name}: {rows[-1]}\n")
    longest = CallSession.objects.aggregate(most=Max("turn_count"))["most"]
    return {
        "calls": CallSession.objects.count(),
        "turns": Turn.objects.count(),
        "longest": longest,
        "pages": rows,
    }


def _timed(get: Callable[[], int]) -> float:
    """How long `get` takes, in ms."""
    begin = time.perf_counter()
    get()
    return (time.perf_counter() - begin) * 1000


if __name__ == "__main__":
    sys.stdout.write(json.dumps(_ask(int(sys.argv[1]))))
