"""A connection goes through its phases once, and the first reason to end it counts."""

import pytest

from calls.gateway.codes import ABUSE, GOING_AWAY, NORMAL
from calls.gateway.phase import Life, Phase
from calls.models import EndReason


def test_a_connection_lives_through_its_phases():
    life = Life()
    assert life.start()
    assert life.run()
    assert not life.is_ending
    assert life.leave(EndReason.DISCONNECT, NORMAL)
    assert life.is_ending
    assert not life.closed.is_set()
    assert life.close()
    assert life.closed.is_set()
    assert life.phase is Phase.CLOSED


def test_the_first_reason_to_leave_counts():
    life = Life()
    assert life.leave(EndReason.ABUSE, ABUSE, "too fast")
    assert not life.leave(EndReason.SHUTDOWN, GOING_AWAY)
    assert (life.reason, life.code, life.error) == (EndReason.ABUSE, ABUSE, "too fast")


@pytest.mark.parametrize(
    ("before", "move"),
    [
        ([], "run"),
        ([], "close"),
        (["start"], "start"),
        (["start", "run"], "start"),
        (["leave"], "start"),
        (["start", "leave"], "run"),
        (["leave", "close"], "leave"),
        (["leave", "close"], "start"),
    ],
)
def test_a_move_that_does_not_follow_is_not_made(before, move):
    def make(life, name):
        arguments = (EndReason.CLOSED, NORMAL) if name == "leave" else ()
        return getattr(life, name)(*arguments)

    life = Life()
    for name in before:
        assert make(life, name)
    phase = life.phase
    assert not make(life, move)
    assert life.phase is phase
