"""The socket itself: who may connect, and what each kind of bad input gets."""

import asyncio
import json
import socket
import struct
import time
from contextlib import suppress

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode

from tests.e2e.server import AgentServer

CONFIGURE = {"command": "configure", "room_id": "socket", "system_prompt": None}
FRAME = bytes(320)
MEMORY_MB = 30


async def until(ws, kind, within=10):
    """The next message of a type; what came before it is skipped."""
    async with asyncio.timeout(within):
        async for text in ws:
            if isinstance(text, str) and (message := json.loads(text))["type"] == kind:
                return message
    raise AssertionError(f"the server closed without {kind}")


async def closed(ws, within=10):
    """Read until the server closes the socket; the code it closed with."""
    async with asyncio.timeout(within):
        with suppress(ConnectionClosed):
            async for _ in ws:
                pass
    return ws.close_code


async def send(ws, message):
    await ws.send(json.dumps(message))


# --- Normal use -------------------------------------------------------------------------------------------


async def test_hello_configure_ping_and_goodbye(agent):
    async with connect(agent.url) as ws:
        assert set(json.loads(await ws.recv())) == {"type", "server", "version", "timestamp"}
        await send(ws, {**CONFIGURE, "room_id": "hello"})
        configured = await until(ws, "configured")
        assert configured["status"] == "ready"
        await send(ws, {"command": "ping", "timestamp": 1234})
        assert (await until(ws, "pong"))["timestamp"] == 1234
        await send(ws, {"command": "disconnect", "reason": "done"})
        assert await closed(ws) == 1000
    assert (await agent.finished("hello"))["end_reason"] == "disconnect"


async def test_a_socket_that_just_closes_ends_the_call(agent):
    async with connect(agent.url) as ws:
        await send(ws, {**CONFIGURE, "room_id": "gone"})
        await until(ws, "configured")
    session = await agent.finished("gone")
    assert (session["end_reason"], session["status"]) == ("closed", "completed")


async def test_a_connection_that_is_reset_ends_the_call_at_once(agent):
    """At any moment between two frames, and while the server has nothing to send."""

    async def call(room, reset_after):
        async with connect(f"{agent.url}?profile=quiet") as ws:
            await send(ws, {**CONFIGURE, "room_id": room})
            await until(ws, "configured")
            speaking = asyncio.create_task(stream(ws, bytes(640) * 200))
            await asyncio.sleep(reset_after)
            speaking.cancel()
            linger = struct.pack("ii", 1, 0)  # to close is then to reset
            ws.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            ws.transport.abort()
        session = await agent.finished(room, within=5)
        assert (session["end_reason"], session["status"]) == ("closed", "completed")

    await asyncio.gather(*(call(f"reset-{n}", 0.5 + 0.037 * n) for n in range(16)))


async def test_without_configure_the_default_profile_answers(agent):
    async with connect(agent.url) as ws:
        began = time.monotonic()
        speaking = asyncio.create_task(stream(ws, bytes(640) * 200))
        assert (await until(ws, "configured"))["call_id"]
        assert time.monotonic() - began >= 1.9
        assert "Hello" in (await until(ws, "tts_started"))["text"]
        speaking.cancel()


async def stream(ws, pcm):
    """Send audio at the pace of speech."""
    due = time.monotonic()
    for i in range(0, len(pcm), 640):
        await ws.send(pcm[i : i + 640])
        due += 0.02
        await asyncio.sleep(max(0, due - time.monotonic()))


# --- Bad input: an error with a code, and the call goes on ------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        ("{", 400, "JSON object"),
        ('{"command": "dance"}', 400, "dance"),
        ('{"command": "ping"}', 400, "timestamp"),
        ('{"command": "ping", "timestamp": "soon"}', 400, "'soon'"),
        (b"odd", 422, "3 bytes"),
        (b"", 422, "empty"),
        ('{"command": "audio", "audio_data": [0, 0], "sample_rate": 8000}', 422, "8000"),
        (b"\0" * 70_000, 413, "70000"),
        ("x" * 70_000, 413, "70000"),
    ],
)
async def test_bad_input_is_named_and_the_call_goes_on(agent, bad, code, says):
    async with connect(agent.url) as ws:
        await send(ws, {**CONFIGURE, "room_id": f"bad {code}"})
        await until(ws, "configured")
        await ws.send(bad)
        error = await until(ws, "error")
        assert error["code"] == code
        assert "expected" in error["message"]
        assert says in error["message"]
        await send(ws, {"command": "ping", "timestamp": 1})
        await until(ws, "pong")


async def test_audio_arrives_whole_however_its_frames_are_cut(agent):
    """Frames in one piece, in many, two at once, fragmented, and with a ping of the protocol among them."""
    reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
    writer.write(handshake(agent.port))
    await reader.readuntil(b"\r\n\r\n")
    configure = json.dumps({**CONFIGURE, "room_id": "cut"}).encode()
    writer.write(framed(configure, Opcode.TEXT))
    audio = framed(bytes(640))
    pieces = [
        audio,
        audio + audio,
        audio[:1], audio[1:7], audio[7:],
        audio + audio[:100], audio[100:] + audio,
        framed(bytes(320), fin=False) + framed(b"here?", Opcode.PING), framed(bytes(320), Opcode.CONT),
        audio + framed(b'{"command": "ping", "timestamp": 7}', Opcode.TEXT) + audio,
        audio + framed(b'{"command": "disconnect", "reason": "done"}', Opcode.TEXT),
    ]  # fmt: skip
    said = bytearray()
    listening = asyncio.create_task(listen(reader, said))
    for piece in pieces:
        await asyncio.sleep(0.05)  # so that each arrives by itself, at the pace of speech
        writer.write(piece)
    await asyncio.wait_for(listening, 10)
    writer.close()
    assert framed(b"here?", Opcode.PONG, mask=False) in said
    assert b'"type": "pong", "timestamp": 7' in said
    assert b'"error"' not in said
    session = await agent.finished("cut")
    assert (session["audio_in_s"], session["end_reason"]) == (0.22, "disconnect")


async def test_what_lies_unread_between_windows_is_read_when_the_audio_stops(agent):
    """A client that streams steadily is read when a window is due; what follows its last frame is, too."""
    async with connect(agent.url) as ws:
        await send(ws, {**CONFIGURE, "room_id": "steady"})
        await until(ws, "tts_completed")
        begin = time.monotonic()
        for n in range(101):  # not a whole number of windows
            await asyncio.sleep(begin + 0.01 * n - time.monotonic())
            await ws.send(FRAME)
        await asyncio.sleep(0.03)
        await send(ws, {"command": "ping", "timestamp": 7})
        assert (await until(ws, "pong", within=2))["timestamp"] == 7
        await send(ws, {"command": "disconnect", "reason": "done"})
        assert await closed(ws) == 1000
    assert (await agent.finished("steady"))["audio_in_s"] == 1.01


async def listen(reader, said):
    """Gather what the server says until it closes."""
    with suppress(ConnectionError):
        while more := await reader.read(4096):
            said += more


def handshake(port):
    return (
        f"GET /ws/rustpbx HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ).encode()


def framed(payload, opcode=Opcode.BINARY, *, fin=True, mask=True):
    return Frame(opcode, payload, fin=fin).serialize(mask=mask)


async def test_configure_twenty_times_is_too_fast_and_the_call_goes_on(agent):
    async with connect(agent.url) as ws:
        await send(ws, {**CONFIGURE, "room_id": "often"})
        await until(ws, "configured")  # who leaves while the call is still being set up has not called
        for n in range(20):
            await send(ws, {**CONFIGURE, "room_id": "often", "system_prompt": f"Prompt {n}"})
        error = await until(ws, "error")
        assert error["code"] == 429
        await send(ws, {"command": "ping", "timestamp": 1})
        await until(ws, "pong")
    await agent.finished("often")
    assert len(agent.rows("SELECT id FROM calls_callsession WHERE room_id = 'often'")) == 1


async def test_a_flood_is_refused_then_closed_and_others_do_not_notice(agent):
    async with connect(agent.url) as victim, connect(agent.url) as flooder:
        await send(victim, {**CONFIGURE, "room_id": "victim"})
        await until(victim, "configured")
        reading = asyncio.create_task(error_codes(flooder))
        with pytest.raises(ConnectionClosed):
            await flood(flooder, 1_000_000)
        assert 429 in await reading
        assert flooder.close_code == 1008
        await send(victim, {"command": "ping", "timestamp": 2})
        assert (await until(victim, "pong"))["timestamp"] == 2


async def error_codes(ws):
    """The codes of all errors until the socket closes."""
    codes = set()
    with suppress(ConnectionClosed):
        async for text in ws:
            codes.add(json.loads(text).get("code"))
    return codes


async def flood(ws, messages):
    """Send until the server has had enough."""
    for n in range(messages):
        await ws.send('{"command": "ping", "timestamp": 1}')
        if n % 100 == 0:
            await asyncio.sleep(0)  # lets this side notice that the server closed


async def test_a_message_beyond_all_measure_closes_the_socket(agent):
    async with connect(agent.url) as ws:
        await ws.send(b"\0" * (2 * 1024 * 1024))
        assert await closed(ws) == 1009


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not reading"])
async def test_what_a_flood_brings_gathers_in_its_sender(agent, reads):
    """Messages so small that the server could take in thousands of them for each that it looks at."""
    room = f"flood-{reads}"
    said = bytearray()
    reader, writer = await asyncio.open_connection("127.0.0.1", agent.port)
    writer.write(handshake(agent.port))
    await reader.readuntil(b"\r\n\r\n")
    with agent.memory_grows_at_most(MEMORY_MB):
        writer.write(framed(json.dumps({**CONFIGURE, "room_id": room}).encode(), Opcode.TEXT))
        await asyncio.wait_for(reader.readuntil(b'"configured"'), 10)
        listening = asyncio.create_task(listen(reader, said)) if reads else None
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(pour(writer, framed(b"\0") * 10_000), 30)
        session = await agent.finished(room)
    assert (session["end_reason"], session["status"]) == ("abuse", "failed")
    if listening is not None:
        await asyncio.wait_for(listening, 10)
        assert framed((1008).to_bytes(2, "big"), Opcode.CLOSE, mask=False) in said
    writer.close()


async def pour(writer, data):
    """Send it again and again, as fast as it is taken."""
    while True:
        writer.write(data)
        await writer.drain()


async def test_a_client_that_never_reads_is_dropped_and_its_memory_bounded(agent):
    """The greeting alone would be megabytes of JSON; without a bound all of it would gather in the server."""
    with agent.memory_grows_at_most(MEMORY_MB):
        async with connect(f"{agent.url}?profile=endless", max_queue=1) as ws:
            await send(ws, {**CONFIGURE, "room_id": "deaf"})
            ws.transport.pause_reading()
            session = await agent.finished("deaf", within=60)
    assert (session["end_reason"], session["status"]) == ("abuse", "failed")


# --- Who may connect --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server with tokens."""
    with AgentServer(tmp_path_factory.mktemp("guarded"), STREAM_TOKENS="first,second-token") as server:
        yield server


async def status_of(url, **options):
    try:
        async with connect(url, **options):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def test_behind_a_proxy_a_token_is_needed(guarded):
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    assert await status_of(guarded.url) == 101
    assert await status_of(guarded.url, additional_headers=forwarded) == 403
    assert await status_of(f"{guarded.url}?token=wrong", additional_headers=forwarded) == 403
    assert await status_of(f"{guarded.url}?token=second-token", additional_headers=forwarded) == 101
    bearer = {**forwarded, "Authorization": "Bearer first"}
    assert await status_of(guarded.url, additional_headers=bearer) == 101
    log = "".join(guarded.output)
    assert "refused a stream" in log
    assert "wrong" not in log
    assert "second-token" not in log


async def test_a_foreign_page_is_refused(agent):
    assert await status_of(agent.url, origin="https://evil.example") == 403
    assert await status_of(agent.url, origin=agent.page) == 101


def test_a_public_host_without_tokens_refuses_to_start(tmp_path):
    server = AgentServer(tmp_path, HOST="0.0.0.0", SECRET_KEY="x" * 60, ALLOWED_HOSTS="a.example")  # noqa: S104  meant
    with pytest.raises(AssertionError, match="STREAM_TOKENS"):
        server.python("manage.py", "check")
