"""`manage.py fill`: made-up calls look like calls, and are the same every time."""

from datetime import UTC, datetime
from io import StringIO
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command

from calls.filling import rows
from calls.management.commands import fill
from calls.models import CallEvent, CallSession, CallStatus, PromptProfile, Turn

pytestmark = pytest.mark.django_db

UNTIL = datetime(2026, 3, 4, 23, 59, 59, tzinfo=UTC)


def run(**options):
    """Run the command and return what it says."""
    out = StringIO()
    call_command("fill", stdout=out, until=UNTIL, **options)
    return out.getvalue()


def stored():
    """All that is stored, without what the database numbers itself."""
    calls = CallSession.objects.order_by("pk").values_list(
        "pk", "caller", "started_at", "status", "profile__slug"
    )
    turns = Turn.objects.order_by("session_id", "index").values_list(
        "session_id", "index", "text", "start_ms"
    )
    return list(calls), list(turns)


def test_the_same_seed_makes_the_same_calls():
    assert run(calls=30, seed=5).startswith("Made 30 calls with ")
    first = stored()
    CallSession.objects.all().delete()
    run(calls=30, seed=5)
    assert stored() == first
    run(calls=30, seed=6)
    assert CallSession.objects.count() == 60


def test_calls_that_are_stored_already_are_not_made_again():
    run(calls=3)
    with pytest.raises(CommandError, match="another --seed"):
        run(calls=3)


def test_calls_are_as_if_they_had_happened():
    said = run(turns=4000, long=500)
    calls = CallSession.objects.order_by("started_at")
    assert f"with {Turn.objects.count():,} turns" in said
    assert 3500 < Turn.objects.count() < 4600
    assert calls.filter(turn_count=500).count() == 1
    assert (calls[0].started_at.year, calls.last().started_at < UNTIL) == (2025, True)
    assert set(calls.values_list("status", flat=True)) == {
        CallStatus.COMPLETED, CallStatus.FAILED, CallStatus.INTERRUPTED,
    }  # fmt: skip
    assert calls.values("profile").distinct().count() == len(rows.PROFILES)
    assert calls.values("version").distinct().count() == len(rows.PROFILES) * len(rows.GREETINGS)
    for call in calls.select_related("version"):
        assert call.version.published_at.date() <= call.started_at.date()
    assert len(set(Turn.objects.values_list("language", flat=True))) >= 5
    assert CallEvent.objects.filter(session__status=CallStatus.FAILED, kind="provider_failure").exists()
    assert PromptProfile.objects.usable().count() == 1, "no caller gets a made-up profile"
    for call in calls[:40]:
        turns = list(call.turns.all())
        assert len(turns) == call.turn_count
        assert all(a.end_ms <= b.start_ms for a, b in pairwise(turns))
        assert call.duration.total_seconds() * 1000 == pytest.approx(turns[-1].end_ms, abs=1)


def test_they_are_found(make_call):
    run(calls=60)
    call = CallSession.objects.filter(caller__startswith="+").first()
    assert call in CallSession.objects.search(call.caller[-7:])
    assert CallSession.objects.search('"how can i help you"').exists()


def test_not_among_real_calls(settings):
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="production"):
        run(calls=3)
    assert not CallSession.objects.exists()
    run(calls=3, force=True)
    assert CallSession.objects.count() == 3


@pytest.mark.parametrize(
    "wrong", [{"calls": 0}, {"calls": -1}, {"turns": 0}, {"turns": -5}, {"calls": 1, "long": -1}]
)
def test_numbers_that_make_no_sense_are_refused(wrong):
    with pytest.raises(CommandError, match="at least"):
        run(**wrong)


class Terminal(StringIO):
    """A terminal, as far as the command can tell."""

    def isatty(self):
        return True


def test_batches_leave_nothing_out_and_are_told_one_by_one(monkeypatch):
    monkeypatch.setattr(fill, "AT_ONCE", 7)
    terminal = Terminal()
    call_command("fill", stdout=terminal, until=UNTIL, calls=20)
    assert CallSession.objects.count() == 20
    assert [line.split(",")[0] for line in terminal.getvalue().split("\r")[1:]] == [
        f"{calls} of 20 calls" for calls in (7, 14, 20)
    ]
