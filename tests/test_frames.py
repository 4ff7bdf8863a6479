"""Frames of the short way in and out, against those of another implementation of RFC 6455."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from calls.gateway.server import frames

LENGTHS = [0, 1, 125, 126, 127, 320, 640, 65_535]


def sent(payload, opcode=Opcode.BINARY, *, fin=True, mask=True):
    """A frame as a client sends it."""
    return Frame(opcode, payload, fin=fin).serialize(mask=mask)


def received(data):
    """The frames in what a server sent."""
    reader = StreamReader()
    reader.feed_data(data)
    frames = []
    while reader.buffer:
        parser = Frame.parse(reader.read_exact, mask=False)
        with pytest.raises(StopIteration) as whole:
            next(parser)
        frames.append(whole.value.value)
    return frames


@pytest.mark.parametrize("length", LENGTHS)
def test_a_clients_message_is_read(length):
    payload = bytes(n * 7 % 256 for n in range(length))
    frame = sent(payload)
    assert frames.binary_message(frame, 0) == (payload, len(frame))


@given(st.lists(st.binary(max_size=700), max_size=6), st.data())
def test_messages_in_a_row_are_read_up_to_the_one_that_is_not_all_there(payloads, data):
    sent_frames = [sent(payload) for payload in payloads]
    stream = b"".join(sent_frames)
    there = data.draw(st.integers(0, len(stream)))
    found, at = [], 0
    while (message := frames.binary_message(stream[:there], at)) is not None:
        payload, at = message
        found.append(payload)
    whole = [n for n in range(len(sent_frames) + 1) if sum(map(len, sent_frames[:n])) <= there][-1]
    assert found == payloads[:whole]
    assert at == sum(map(len, sent_frames[:whole]))


@pytest.mark.parametrize(
    "frame",
    [
        sent(b"text", Opcode.TEXT),
        sent(b"", Opcode.PING),
        sent(b"\x03\xe8", Opcode.CLOSE),
        sent(b"the first part", fin=False),
        sent(b"the rest", Opcode.CONT),
        sent(b"unmasked", mask=False),
        sent(bytes(200), mask=False),
        sent(bytes(65_536)),
        b"\x82\xfe\x00\x05\0\0\0\0hello",  # a length that would fit a single byte
        b"\xc2" + sent(b"compressed")[1:],
    ],
    ids=["text", "ping", "close", "part", "rest", "unmasked", "of 200", "of 65,536", "length", "compressed"],
)
def test_anything_else_is_left_to_autobahn(frame):
    assert frames.binary_message(frame, 0) is None


@pytest.mark.parametrize("length", [*LENGTHS, 65_536, 100_000])
def test_a_message_to_a_client_is_one_frame(length):
    pcm, text = bytes(n % 251 for n in range(length)), "é" * (length // 2) + "x" * (length % 2)
    (binary, written) = received(frames.message(pcm) + frames.message(text))
    assert (binary.opcode, binary.fin, bytes(binary.data)) == (Opcode.BINARY, True, pcm)
    assert (written.opcode, written.fin, bytes(written.data).decode()) == (Opcode.TEXT, True, text)


def test_messages_of_audio_are_joined_if_each_would_do_by_itself():
    assert frames.joined([b"abcd", b"efgh"]) == b"abcdefgh"
    assert frames.joined([b"ab"]) == b"ab"
    for payloads in ([b"abc", b"def"], [b"", b""], [b"ab", b"abcd"]):
        assert frames.joined(payloads) is None
