"""A process has one state, and a boot of its own."""

import pytest

from calls.process import IllegalMove, Process, State


def test_a_process_lives_once_through_its_states():
    process = Process()
    assert not process.is_accepting
    process.move(State.ACCEPTING)
    assert process.is_accepting
    process.move(State.DRAINING)
    assert not process.is_accepting
    process.move(State.STOPPED)
    assert process.state is State.STOPPED


@pytest.mark.parametrize(
    ("states", "wrong"),
    [
        ([], State.DRAINING),
        ([State.ACCEPTING], State.STARTING),
        ([State.ACCEPTING, State.DRAINING], State.ACCEPTING),
        ([State.ACCEPTING, State.DRAINING, State.STOPPED], State.ACCEPTING),
    ],
)
def test_a_move_that_does_not_follow_is_refused(states, wrong):
    process = Process()
    for state in states:
        process.move(state)
    with pytest.raises(IllegalMove, match=f"become {wrong.value}"):
        process.move(wrong)


def test_a_second_start_is_another_boot():
    process = Process()
    boot = process.boot
    process.move(State.STOPPED)
    assert process.boot == boot
    process.move(State.STARTING)
    assert process.boot != boot
