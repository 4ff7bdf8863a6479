"""How much a client may send."""

from calls.gateway.limits import ABUSE_AFTER, Limits


def test_a_real_client_never_meets_a_limit():
    limits = Limits(0.0)
    for n in range(60_000):  # ten minutes of 10 ms frames
        assert limits.messages(1, n * 0.01)
        assert limits.audio(0.01, n * 0.01)


def test_five_seconds_at_once_after_a_stall_are_fine():
    limits = Limits(0.0)
    assert all(limits.messages(1, 10.0) and limits.audio(0.01, 10.0) for _ in range(500))


def test_a_flood_is_refused_and_in_the_end_called_abuse():
    limits = Limits(0.0)
    allowed = sum(limits.messages(1, n / 50_000) for n in range(ABUSE_AFTER + 5_000))
    assert allowed < 2_500
    assert limits.abused


def test_a_client_that_calms_down_is_heard_again():
    limits = Limits(0.0)
    for _ in range(5_000):
        limits.messages(1, 1.0)
    assert not limits.messages(1, 1.0)
    assert limits.messages(1, 2.0)
    assert not limits.abused


def test_audio_far_faster_than_speech_is_refused():
    limits = Limits(0.0)
    assert sum(limits.audio(2.0, n * 0.01) for n in range(100)) <= 12
