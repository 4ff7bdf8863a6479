"""How much a client may send."""

from calls.gateway.limits import ABUSE_AFTER, BYTES_AT_ONCE, BYTES_PER_S, MISTAKES_AT_ONCE, Limits

FRAME, JSON_FRAME = 320, 1_700  # bytes of 10 ms


def test_a_real_client_never_meets_a_limit():
    limits = Limits(0.0)
    for n in range(60_000):  # ten minutes of 10 ms frames
        assert limits.messages(1, JSON_FRAME, n * 0.01)
        assert limits.audio(0.01, n * 0.01)


def test_five_seconds_at_once_after_a_stall_are_fine():
    limits = Limits(0.0)
    assert all(limits.messages(1, JSON_FRAME, 10.0) and limits.audio(0.01, 10.0) for _ in range(500))


def test_a_flood_is_refused_and_in_the_end_called_abuse():
    limits = Limits(0.0)
    allowed = sum(limits.messages(1, FRAME, n / 50_000) for n in range(ABUSE_AFTER + 5_000))
    assert allowed < 2_500
    assert limits.abused


def test_a_client_that_calms_down_is_heard_again():
    limits = Limits(0.0)
    for _ in range(5_000):
        limits.messages(1, FRAME, 1.0)
    assert not limits.messages(1, FRAME, 1.0)
    assert limits.messages(1, FRAME, 2.0)
    assert not limits.abused


def test_audio_far_faster_than_speech_is_refused():
    limits = Limits(0.0)
    assert sum(limits.audio(2.0, n * 0.01) for n in range(100)) <= 12


def test_large_messages_are_refused_by_their_bytes_and_in_the_end_called_abuse():
    limits, size = Limits(0.0), 64 * 1024
    allowed = sum(limits.messages(1, size, n * 0.01) for n in range(1_000))  # ten seconds
    assert allowed * size <= BYTES_AT_ONCE + 10 * BYTES_PER_S
    assert limits.abused


def test_audio_as_json_at_twice_the_pace_of_speech_is_within_the_bytes():
    limits = Limits(0.0)
    assert all(limits.messages(2, 2 * JSON_FRAME, n * 0.01) for n in range(6_000))


def test_mistakes_now_and_then_are_forgiven_and_a_stream_of_them_is_abuse():
    limits = Limits(0.0)
    for n in range(10_000):
        limits.mistake(n * 2.0)
    assert not limits.abused
    for n in range(MISTAKES_AT_ONCE + 30):
        limits.mistake(20_000 + n * 0.02)
    assert limits.abused
