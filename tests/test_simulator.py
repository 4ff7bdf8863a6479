"""The simulated RustPBX against tiny servers that behave in known ways."""

import asyncio
import json
from contextlib import asynccontextmanager
from http import HTTPStatus
from itertools import pairwise
from socket import IPPROTO_TCP, TCP_NODELAY

import numpy as np
import pytest
import soundfile
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

from calls.simulator import (
    GENERATIONS,
    CallReport,
    Interrupt,
    Say,
    Send,
    Wait,
    WaitForAgent,
    call_url,
    run_call,
)
from calls.simulator.audio import read_wav, speech_spans, write_wav
from calls.simulator.clients import FrameCounts, PbxClient
from calls.simulator.outcome import Received
from calls.simulator.playback import Playback
from calls.simulator.report import clean, fit
from calls.simulator.wire import BYTES_PER_SECOND, Unreadable, read_message

PING = json.dumps({"type": "ping", "timestamp": 1})
PACKET = 640


def tone(seconds, level=0.3, rate=16000, hertz=440):
    """A sine as float samples."""
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def pcm(seconds, level=0.3):
    """A sine as s16le 16 kHz bytes: what passes for speech here."""
    return (tone(seconds, level) * 32767).astype("<i2").tobytes()


# --- Toy servers ------------------------------------------------------------------------------------------


def message(kind, **fields):
    return json.dumps({"type": kind, "timestamp": 1, **fields})


def audio_message(number, data=b"\x01\x10" * (PACKET // 2), **fields):
    audio = {"audio_data": list(data), "sample_rate": 16000, "channels": 1, "frame_id": f"f{number}"}
    return json.dumps({"type": "audio", **audio, **fields})


@asynccontextmanager
async def toy_server(handler, **options):
    """Serve `handler(socket)`; gives the URL."""

    async def until_closed(socket):
        try:
            await handler(socket)
        except ConnectionClosed:
            return

    # Without a bound on its queue a server that doesn't read still sees the connection close.
    async with serve(until_closed, "127.0.0.1", 0, max_queue=None, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws/rustpbx"


async def greet(socket):
    """Answer `configure`, which is returned."""
    await socket.send(message("connected", server="toy", version="1"))
    configure = json.loads(await socket.recv())
    await socket.send(message("configured", call_id="call-1", status="ok"))
    return configure


async def speak(socket, seconds, binary=False):
    """Send audio as the agent does: a 20 ms message every 20 ms."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    for number in range(round(seconds / 0.02)):
        await asyncio.sleep(start + number * 0.02 - loop.time())
        await socket.send(bytes(PACKET) if binary else audio_message(f"{start}-{number}"))


async def ping_for_each_frame(socket, on_frame=lambda frame: None):
    """The pump: a ping for a frame, and one after 20 ms without."""
    while True:
        try:
            async with asyncio.timeout(0.02):
                on_frame(await socket.recv())
        except TimeoutError:
            pass
        await socket.send(PING)


def is_loud(frame):
    """Whether there is sound in an audio frame, binary or JSON."""
    return any(frame if isinstance(frame, bytes) else json.loads(frame).get("audio_data", b""))


async def agent(socket):
    """A whole agent: greets, listens to each speech, answers it with a sentence."""
    await greet(socket)
    heard = asyncio.Event()
    pump = asyncio.create_task(ping_for_each_frame(socket, lambda frame: is_loud(frame) and heard.set()))
    try:
        await socket.send(message("tts_started", text="Guten Tag – 您好 👋"))
        await speak(socket, 0.4)
        await heard.wait()
        await socket.send(message("transcription", text="hel", is_final=False))
        await socket.send(message("transcription", text="hello", is_final=True, language="en"))
        await socket.send(message("tts_started", text="Hello yourself."))
        await socket.send(message("llm_response", text="Hello yourself.", is_complete=True))
        await speak(socket, 0.6)
        await pump
    finally:
        pump.cancel()


# --- The generations' habits ------------------------------------------------------------------------------


async def call_with(handler, generation, seconds=2.0, **options):
    """A call of silence; its report."""
    async with toy_server(handler) as url:
        return await run_call([Wait(seconds)], url=url, generation=generation, **options)


async def say_nothing(socket):
    await socket.wait_closed()


async def ping_every_40_ms(socket):
    loop = asyncio.get_running_loop()
    due = loop.time()
    while True:
        due += 0.04
        await asyncio.sleep(due - loop.time())
        await socket.send(PING)


def mean_lag(report):
    return np.mean(report.frames.lags_ms)


async def test_seed_client_sends_nothing_to_a_server_that_says_nothing():
    report = await call_with(say_nothing, "seed")
    assert report.frames.due > 150
    assert report.frames.sent == 0


async def test_seed_client_sends_one_frame_for_each_message():
    report = await call_with(ping_every_40_ms, "seed")
    assert 0.15 * report.frames.due < report.frames.sent < 0.32 * report.frames.due
    assert report.frames.sent <= report.pings + 1
    assert max(report.frames.lags_ms) > 500


async def test_websocket_pings_release_the_seed_client_as_well():
    async def server(socket):
        while True:
            await socket.ping()
            await asyncio.sleep(0.02)

    report = await call_with(server, "seed", seconds=1.0)
    assert 20 < report.frames.sent <= report.websocket_pings


async def test_seed_client_gets_all_frames_through_with_the_pump():
    report = await call_with(ping_for_each_frame, "seed")
    assert report.frames.sent + report.frames.dropped >= report.frames.due - 4
    assert mean_lag(report) < 25


async def test_new_client_sends_in_bursts_every_100_ms_to_a_server_that_says_nothing():
    report = await call_with(say_nothing, "new")
    assert report.frames.sent >= report.frames.due - 20
    assert 30 < mean_lag(report) < 80
    lags = list(report.frames.lags_ms)
    falls = sum(b < a for a, b in pairwise(lags))
    assert falls > 0.7 * len(lags)  # within a burst each frame is younger than the one before


async def test_new_client_keeps_up_with_the_pump():
    report = await call_with(ping_for_each_frame, "new")
    assert report.frames.sent >= report.frames.due - 4
    assert mean_lag(report) < 25


@pytest.mark.parametrize("generation", ["free", "json"])
async def test_free_clients_need_no_messages(generation):
    report = await call_with(say_nothing, generation, seconds=1.0)
    assert report.frames.sent >= report.frames.due - 2
    assert 95 <= report.frames.due <= report.duration_s * 100 + 1
    assert mean_lag(report) < 25


async def test_seed_client_streams_before_it_is_connected_and_drops_those_frames():
    async def slowly(connection, request):
        await asyncio.sleep(0.3)

    async with toy_server(ping_for_each_frame, process_request=slowly) as url:
        report = await run_call([Wait(1.0)], url=url, generation="seed")
    assert report.frames.dropped >= 25
    async with toy_server(ping_for_each_frame, process_request=slowly) as url:
        report = await run_call([Wait(0.3)], url=url, generation="new")
    assert report.frames.dropped == 0


@pytest.mark.parametrize(("frame_ms", "size"), [(10, 320), (20, 640)])
async def test_frames_arrive_in_order_with_the_speech_in_them(frame_ms, size):
    frames = []

    async def server(socket):
        await greet(socket)
        await ping_for_each_frame(socket, frames.append)

    speech = pcm(0.5)
    async with toy_server(server) as url:
        await run_call([Say(speech), Wait(0.2)], url=url, generation="free", frame_ms=frame_ms)
    audio = [frame for frame in frames if isinstance(frame, bytes)]
    assert {len(frame) for frame in audio} == {size}
    assert b"".join(audio)[: len(speech)] == speech
    assert not any(b"".join(audio)[len(speech) :])


async def test_json_client_sends_its_audio_as_commands():
    received = []

    async def server(socket):
        await greet(socket)
        await ping_for_each_frame(socket, received.append)

    speech = pcm(0.1)
    async with toy_server(server) as url:
        await run_call([Say(speech), Wait(0.1)], url=url, generation="json")
    audio = [json.loads(text) for text in received if '"audio"' in text]
    assert b"".join(bytes(each["audio_data"]) for each in audio)[: len(speech)] == speech
    assert {(each["sample_rate"], each["channels"]) for each in audio} == {(16000, 1)}
    assert isinstance(audio[0]["timestamp"], int)
    assert len({each["frame_id"] for each in audio}) == len(audio)


async def test_configure_has_what_every_real_client_sends():
    got = []

    async def server(socket):
        got.append(socket.request.path)
        got.append(await greet(socket))
        await speak(socket, 0.1)
        got.append([text async for text in socket if isinstance(text, str)])

    async with toy_server(server) as url:
        await run_call(
            [Send({"command": "configure", "room_id": "r", "system_prompt": "Neu"}), Wait(0.3)],
            url=call_url(f"{url}?a=1", profile="sales & more", token=None, caller="+15551234"),
            generation="free",
            room_id="r",
            system_prompt="Sei höflich",
            extensions={"metadata": {"x": 1}},
        )
    path, configure, later = got
    assert path == "/ws/rustpbx?a=1&profile=sales+%26+more&caller=%2B15551234"
    assert configure["command"] == "configure"
    assert (configure["room_id"], configure["system_prompt"]) == ("r", "Sei höflich")
    assert configure["llm_config"] == {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7}
    assert configure["metadata"] == {"x": 1}
    assert [json.loads(text)["command"] for text in later] == ["configure", "disconnect"]


async def test_nagles_algorithm_is_on_and_nothing_but_the_handshake_is_in_the_headers():
    """RustPBX leaves TCP_NODELAY off and sets no headers."""
    headers = []

    async def server(socket):
        headers.append(dict(socket.request.headers.raw_items()))
        await socket.wait_closed()

    async with toy_server(server) as url:
        client = PbxClient(GENERATIONS["new"], url, lambda incoming: None)
        await client.connect({"command": "configure"})
        tcp = client._socket.transport.get_extra_info("socket")
        assert not tcp.getsockopt(IPPROTO_TCP, TCP_NODELAY)
        await client.hang_up("done")
    names = {name.lower() for name in headers[0]}
    assert names == {"host", "upgrade", "connection", "sec-websocket-key", "sec-websocket-version"}


# --- The call ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generation", ["seed", "new", "free", "json"])
async def test_a_whole_call(generation):
    events = []
    script = [WaitForAgent(0.4), Say(pcm(0.5)), WaitForAgent(0.4)]
    async with toy_server(agent) as url:
        report = await run_call(script, url=url, generation=generation, on_event=events.append)
    assert report.failure is None
    assert report.turns == [
        ("agent", "Guten Tag – 您好 👋"),
        ("caller", "hello"),
        ("agent", "Hello yourself."),
    ]
    assert report.audio_messages == 50
    assert report.misfit_audio == report.repeated_frame_ids == report.dropped_count == 0
    assert len(report.talkspurts) == 2
    assert 0 < report.first_audio_ms < 1000
    assert len(report.caller_speech) == 1
    kinds = [event.kind for event in events]
    assert kinds.count("transcription") == 2
    assert kinds.index("configured") < kinds.index("agent_speaks") < kinds.index("caller_says")
    assert [event.ms for event in events] == sorted(event.ms for event in events)
    assert json.loads(json.dumps(report.summary()))["turns"] == 3


@pytest.mark.parametrize("generation", ["seed", "new"])
async def test_a_silent_hang_up_leaves_the_socket_open_and_pings(generation):
    """As RustPBX does: nothing more is said, until the server has understood."""
    got = []

    async def server(socket):
        await greet(socket)
        pump = asyncio.create_task(ping_for_each_frame(socket, got.append))
        while sum(isinstance(each, str) for each in got) < 3:  # noqa: ASYNC110  the pump tells nobody
            await asyncio.sleep(0.01)
        pump.cancel()

    async with toy_server(server) as url:
        report = await run_call([Wait(0.1)], url=url, generation=generation, hang_up="silent", ping_s=0.2)
    assert (report.closed_by, report.close_code, report.said_all) == ("server", 1000, True)
    assert report.noticed_s == pytest.approx(0.5, abs=0.2)
    assert report.pings_unheard > 10
    commands = [json.loads(text)["command"] for text in got if isinstance(text, str)]
    assert commands == ["ping"] * 3
    last_ping = max(n for n, each in enumerate(got) if isinstance(each, str))
    first_ping = min(n for n, each in enumerate(got) if isinstance(each, str))
    assert first_ping + 2 == last_ping  # no audio among the last pings


async def test_a_silent_hang_up_that_is_not_noticed_fails_the_call(monkeypatch):
    monkeypatch.setattr("calls.simulator.call.UNNOTICED_S", 0.2)

    async def server(socket):
        await greet(socket)
        await ping_for_each_frame(socket)

    async with toy_server(server) as url:
        report = await run_call([Wait(0.1)], url=url, hang_up="silent")
    assert report.failure == "the server did not end the call within 0 s of silence"


@pytest.mark.parametrize("rate", [8000, 16000])
async def test_a_voice_is_played_at_the_rate_that_was_asked_for(rate):
    voice = (tone(0.4, rate=rate) * 32767).astype("<i2").tobytes()

    async def server(socket):
        await greet(socket)
        size = rate // 25
        for number, begin in enumerate(range(0, len(voice), size)):
            await socket.send(audio_message(number, voice[begin : begin + size], sample_rate=rate))
            await asyncio.sleep(0.02)
        await socket.wait_closed()

    async with toy_server(server) as url:
        report = await run_call([WaitForAgent(1.0)], url=url, rate=rate)
        assert report.failure is None
        assert report.audio_s == pytest.approx(0.4)
        played = np.frombuffer(report.reply, "<i2")
        heard = played[np.flatnonzero(np.abs(played) > 1000)[0] :][:4000]
        assert np.abs(np.fft.rfft(heard)).argmax() * 4 == pytest.approx(440, abs=8)  # Hz
        other = 24000 - rate
        report = await run_call([WaitForAgent(0.3)], url=url, rate=other)
    assert report.misfit_audio == report.audio_messages == 20
    assert report.failure == "no audio message of the agent was 20 ms long at the rate expected"


async def test_the_reply_is_in_its_place_in_time():
    async def server(socket):
        await greet(socket)
        await asyncio.sleep(0.5)
        await speak(socket, 0.2)
        await socket.wait_closed()

    async with toy_server(server) as url:
        report = await run_call([WaitForAgent(0.3)], url=url, generation="free")
    samples = np.frombuffer(report.reply, "<i2")
    (heard,) = np.nonzero(samples)
    begin = round(report.talkspurts[0].start * 16000)
    assert abs(heard[0] - begin) <= 1
    assert len(heard) == heard[-1] - heard[0] + 1 == 0.2 * 16000
    assert report.talkspurts[0].start >= 0.5
    assert abs(len(samples) / 16000 - report.duration_s) < 0.01


async def test_the_reply_latency_counts_from_the_end_of_speech():
    async def server(socket):
        await greet(socket)
        quiet_after_speech = False
        async for frame in socket:
            if any(frame):
                quiet_after_speech = True
            elif quiet_after_speech:
                break
        await asyncio.sleep(0.3)
        await speak(socket, 0.1)
        await socket.wait_closed()

    async with toy_server(server) as url:
        speech = pcm(0.4) + bytes(BYTES_PER_SECOND // 5)  # a recording's silent end is no speech
        report = await run_call([Say(speech), WaitForAgent(0.2)], url=url, generation="free")
    (latency,) = report.reply_latencies_ms
    assert 290 < latency < 700


async def test_interrupt_speaks_into_the_agents_speech():
    stopped = asyncio.Event()

    async def server(socket):
        await greet(socket)
        talking = asyncio.create_task(speak(socket, 30))
        async for frame in socket:
            if is_loud(frame):
                talking.cancel()
                stopped.set()

    async with toy_server(server) as url:
        script = [Interrupt(pcm(0.3), after_s=0.4), WaitForAgent(0.3, reply=False)]
        report = await run_call(script, url=url, generation="free")
    assert stopped.is_set()
    spoken, (began, _) = report.talkspurts[0], report.caller_speech[0]
    assert 0.35 < began - spoken.start < 1.0
    assert spoken.last_message < began + 1.0
    assert report.in_vain == []


async def test_a_wait_for_an_agent_that_never_speaks_ends():
    async def server(socket):
        await greet(socket)
        await socket.wait_closed()

    step = WaitForAgent(0.1, timeout_s=0.3)
    async with toy_server(server) as url:
        report = await run_call([step], url=url, generation="free")
    assert report.in_vain == [step]
    assert report.failure == "neither audio nor text came back"


async def test_pcm_alone_is_followed_by_silence_until_the_agent_was_quiet():
    async with toy_server(agent) as url:
        report = await run_call(pcm(0.3), url=url, generation="free", hold_s=1.2)
    assert report.said_by("caller") == "hello"
    assert report.duration_s > report.talkspurts[-1].end + 1.1
    assert report.closed_by == "caller"


async def test_seed_client_ignores_binary_audio_and_the_others_play_it():
    async def server(socket):
        await greet(socket)
        await speak(socket, 0.2, binary=True)
        await socket.wait_closed()

    report = await call_with(server, "new", seconds=0.6)
    assert (report.audio_messages, report.binary_ignored, report.failure) == (10, 0, None)
    report = await call_with(server, "seed", seconds=0.6)
    assert (report.audio_messages, report.binary_ignored) == (0, 10)
    assert report.failure == "neither audio nor text came back"


async def test_bad_messages_are_dropped_and_listed_and_the_call_goes_on():
    async def server(socket):
        await greet(socket)
        await socket.send(message("error", message="no", code="404"))
        await socket.send(message("error", message="gone", code=404))
        await socket.send("x" * 100_000)
        await socket.send(audio_message(1))
        await socket.send(audio_message(1, data=bytes(6400)))
        await socket.send(audio_message(2, data=b"\0" * 641))
        await socket.send(audio_message(3, sample_rate=24000))
        await socket.wait_closed()

    report = await call_with(server, "free", seconds=0.3)
    assert report.failure is None
    assert report.dropped_count == 2
    assert report.dropped[0].reason == "error: code must be an integer or null, got '404'"
    assert len(report.dropped[1].text) == 500
    assert [error["message"] for error in report.of("error")] == ["gone"]
    assert (report.audio_messages, report.misfit_audio, report.repeated_frame_ids) == (4, 3, 1)


# --- Calls that fail --------------------------------------------------------------------------------------


async def test_nobody_listens(unused_tcp_port):
    report = await run_call(pcm(0.1), url=f"ws://127.0.0.1:{unused_tcp_port}/x?token=secret")
    assert "cannot connect" in report.failure
    assert "secret" not in report.failure


@pytest.mark.parametrize("generation", ["seed", "new"])
async def test_a_refused_call(generation):
    def refuse(connection, request):
        return connection.respond(HTTPStatus.FORBIDDEN, "no\n")

    async with toy_server(say_nothing, process_request=refuse) as url:
        report = await run_call(pcm(0.1), url=f"{url}?token=secret", generation=generation)
    assert report.failure == f"{url} refused the call: HTTP 403"


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "nonsense", "ws://[::1/", "ws://127.0.0.1:99999999/"])
async def test_no_websocket_address(url):
    report = await run_call(pcm(0.1), url=url)
    assert "WebSocket address" in report.failure


async def test_something_else_than_a_websocket_server_listens():
    async def gibberish(reader, writer):
        writer.write(b"220 mail.example ESMTP\r\n")
        writer.close()

    async with await asyncio.start_server(gibberish, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        report = await run_call(pcm(0.1), url=f"ws://127.0.0.1:{port}/")
    assert "does not speak WebSocket" in report.failure or "cannot connect" in report.failure


async def test_a_server_that_closes_while_the_caller_speaks():
    async def server(socket):
        await greet(socket)
        await speak(socket, 0.1)
        await socket.close(1008, "abuse")

    report = await call_with(server, "new", seconds=60)
    assert report.closed_by == "server"
    assert (report.close_code, report.close_reason) == (1008, "abuse")
    assert "the server closed the call" in report.failure
    assert "code 1008 'abuse'" in report.failure


@pytest.mark.parametrize(
    ("code", "speech_s", "fails"),
    [(1000, 60, True), (1000, 0.1, False), (1001, 0.1, False), (1011, 0.1, True)],
)
async def test_an_agent_may_hang_up_once_all_is_said(code, speech_s, fails):
    async def server(socket):
        await greet(socket)
        async for frame in socket:
            if is_loud(frame):
                break
        await asyncio.sleep(0.3)  # until it is said
        await speak(socket, 0.1)
        await socket.close(code)

    async with toy_server(server) as url:
        report = await run_call(pcm(speech_s), url=url, generation="free", hold_s=60)
    assert report.closed_by == "server"
    assert bool(report.failure) == fails


async def test_a_server_that_drops_the_connection():
    async def server(socket):
        await greet(socket)
        socket.transport.abort()

    report = await call_with(server, "seed", seconds=60)
    assert "code 1006" in report.failure


async def test_a_server_that_never_configures():
    async def server(socket):
        await socket.send(audio_message(1))
        await socket.wait_closed()

    report = await call_with(server, "free", seconds=0.2)
    assert report.failure == "the server sent no `configured`"


def test_a_call_in_which_no_frame_got_through():
    report = CallReport("", "seed", "r", FrameCounts(due=100), messages=[Received(0, {"type": "configured"})])
    report.audio_messages = 50
    assert report.find_failure() == "none of the caller's 100 frames got through"


@pytest.mark.parametrize(
    ("hold_s", "failure"), [(0.3, "the agent did not answer what the caller said"), (0, None)]
)
async def test_an_agent_that_greets_and_does_not_answer(hold_s, failure):
    async def server(socket):
        await greet(socket)
        await speak(socket, 0.2)
        await socket.wait_closed()

    async with toy_server(server) as url:
        report = await run_call(pcm(0.5), url=url, generation="free", hold_s=hold_s)
    assert report.failure == failure


async def test_an_answer_that_follows_the_greeting_without_a_pause_is_one():
    async def server(socket):
        await greet(socket)
        talking = asyncio.create_task(speak(socket, 1.0))
        async for frame in socket:
            if is_loud(frame):
                break
        await socket.send(message("transcription", text="hello", is_final=True, language="en"))
        await socket.send(message("tts_started", text="Hello yourself."))
        await talking
        await socket.wait_closed()

    async with toy_server(server) as url:
        report = await run_call(pcm(0.5), url=url, generation="free", hold_s=0.3)
    assert report.reply_latencies_ms == []
    assert report.failure is None


@pytest.mark.parametrize(
    ("code", "failure"),
    [(422, None), (500, "the server reported error 500: no"), (502, "the server reported error 502: no")],
)
async def test_an_agent_that_reports_a_failure(code, failure):
    async def server(socket):
        await greet(socket)
        await socket.send(message("error", message="oh", code=None))
        await socket.send(message("error", message="no", code=code))
        await speak(socket, 0.2)
        await socket.wait_closed()

    report = await call_with(server, "free", seconds=0.3)
    assert report.failure == failure


@pytest.mark.parametrize("kind", ["configured", "caller_waits", "progress"])
async def test_an_error_of_the_listener_is_raised_and_the_call_is_closed(kind):
    closed = asyncio.Event()

    async def server(socket):
        await greet(socket)
        await socket.wait_closed()
        closed.set()

    def fail(event):
        if event.kind == kind:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        await call_with(server, "free", seconds=60, on_event=fail)
    await asyncio.wait_for(closed.wait(), 5)


async def test_a_cancelled_call_leaves_nothing_behind():
    closed, begun = asyncio.Event(), asyncio.Event()

    async def server(socket):
        await greet(socket)
        begun.set()
        await socket.wait_closed()
        closed.set()

    async with toy_server(server) as url:
        before = asyncio.all_tasks()
        call = asyncio.create_task(run_call([Wait(60)], url=url, generation="new"))
        await begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(closed.wait(), 5)
        mine = {task for task in asyncio.all_tasks() - before if "simulator" in repr(task.get_coro())}
    assert not mine


# --- Reading server messages ------------------------------------------------------------------------------

GOOD = {
    "connected": {"server": "s", "version": "1", "timestamp": 0},
    "configured": {"call_id": "c", "status": "ok", "timestamp": 1},
    "transcription": {"text": "t", "is_final": True, "timestamp": 1},
    "llm_response": {"text": "t", "is_complete": False, "timestamp": 1},
    "tts_started": {"text": "t", "timestamp": 1},
    "tts_completed": {"text": "t", "timestamp": 1},
    "audio": {"audio_data": [0, 255], "sample_rate": 16000, "channels": 1, "frame_id": "1"},
    "metrics": {"key": "stt", "duration": 5, "timestamp": 1},
    "error": {"message": "m", "timestamp": 1},
    "ping": {"timestamp": 1},
    "pong": {"timestamp": 1},
}


@pytest.mark.parametrize("kind", GOOD)
def test_every_message_of_the_table_is_read_with_extra_fields(kind):
    whole = {"type": kind, **GOOD[kind], "extra": [1.5]}
    assert read_message(json.dumps(whole)) == whole


@pytest.mark.parametrize(("kind", "field"), [(kind, field) for kind in GOOD for field in GOOD[kind]])
def test_a_field_that_is_missing_or_null_or_of_another_type_loses_the_message(kind, field):
    whole = {"type": kind, **GOOD[kind]}
    for wrong in ({}, {field: None}, {field: {"a": 1}}, {field: 1.0}, {field: [1.0]}):
        with pytest.raises(Unreadable, match=field):
            read_message(json.dumps({**{k: v for k, v in whole.items() if k != field}, **wrong}))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '"type"',
        "{}",
        '{"type": "hangup"}',
        '{"type": ["ping"]}',
        '{"type": "ping", "timestamp": 1000.0}',
        '{"type": "ping", "timestamp": -1}',
        '{"type": "ping", "timestamp": true}',
        '{"type": "ping", "timestamp": "1"}',
        '{"type": "ping", "timestamp": 18446744073709551616}',
        '{"type": "ping", "timestamp": 1, "x": NaN}',
        '{"type": "error", "message": "m", "timestamp": 1, "code": "404"}',
        '{"type": "error", "message": "m", "timestamp": 1, "code": 4.5}',
        '{"type": "transcription", "text": "t", "is_final": 1, "timestamp": 1}',
        '{"type": "transcription", "text": "t", "is_final": true, "timestamp": 1, "language": 7}',
        '{"type": "tts_started", "text": "\\ud83d", "timestamp": 1}',
        '{"type": "audio", "audio_data": [256], "sample_rate": 16000, "channels": 1, "frame_id": "1"}',
        '{"type": "audio", "audio_data": [-1], "sample_rate": 16000, "channels": 1, "frame_id": "1"}',
        '{"type": "audio", "audio_data": [true], "sample_rate": 16000, "channels": 1, "frame_id": "1"}',
        '{"type": "audio", "audio_data": "AAA=", "sample_rate": 16000, "channels": 1, "frame_id": "1"}',
        '{"type": "audio", "audio_data": [1], "sample_rate": 16000, "channels": 1, "frame_id": 1}',
        '{"type": "ping", "timestamp": ' + "[" * 100_000,
    ],
)
def test_what_a_real_client_drops_is_unreadable(text):
    with pytest.raises(Unreadable):
        read_message(text)


@pytest.mark.parametrize("code", [None, 0, 404, -1])
def test_an_error_code_may_be_an_integer_or_null(code):
    assert read_message(message("error", message="m", code=code))["code"] == code


# --- Sound ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8000, 16000, 44100, 48000])
@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_wav_becomes_16_khz_mono(tmp_path, rate, subtype, channels):
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.column_stack([tone(1.0, rate=rate)] * channels), rate, subtype=subtype)
    samples = np.frombuffer(read_wav(path), "<i2") / 32768
    assert abs(len(samples) - 16000) <= 1
    error = samples[500:15500] - tone(1.0)[500:15500]
    assert np.sqrt(np.mean(error**2)) < (0.01 if subtype == "PCM_U8" else 0.001)


def test_a_wav_of_the_wire_format_is_taken_as_it_is(tmp_path):
    data = np.random.default_rng(1).integers(-32768, 32767, 5000, endpoint=True).astype("<i2").tobytes()
    write_wav(tmp_path / "a.wav", data)
    assert read_wav(tmp_path / "a.wav") == data
    assert soundfile.info(tmp_path / "a.wav").samplerate == 16000


def test_files_that_are_no_speech_are_refused(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match="is not a sound file"):
        read_wav(tmp_path / "text.wav")
    write_wav(tmp_path / "empty.wav", b"")
    with pytest.raises(ValueError, match="has no sound"):
        read_wav(tmp_path / "empty.wav")
    with pytest.raises(FileNotFoundError):
        read_wav(tmp_path / "missing.wav")


def test_speech_is_found_by_its_level():
    silence = bytes(BYTES_PER_SECOND)
    pause = bytes(BYTES_PER_SECOND // 4)
    spans = speech_spans(silence + pcm(0.5) + pause + pcm(0.5) + silence + pcm(0.2) + silence)
    assert np.array(spans) == pytest.approx(np.array([[1.0, 2.25], [3.25, 3.45]]), abs=0.02)
    assert speech_spans(silence) == speech_spans(b"") == []


def packets(playback, times):
    for at in times:
        playback.hear(at, b"\1\1" * (PACKET // 2))


def test_perfect_pacing():
    playback = Playback(0.0)
    packets(playback, [1 + n * 0.02 for n in range(100)])
    pacing = playback.pacing()
    assert (pacing.gap_p50_ms, pacing.gap_p99_ms, pacing.gap_max_ms) == pytest.approx((20, 20, 20))
    assert (pacing.drift_ms, pacing.ahead_ms) == pytest.approx((0, 0), abs=1e-6)
    assert pacing.longest_s == pytest.approx(1.98)


def test_drift_and_lead_and_gaps_are_measured_within_talkspurts():
    playback = Playback(0.0)
    packets(playback, [1 + n * 0.0202 for n in range(101)])  # 0.2 ms late more with each
    packets(playback, [5.0, 5.0, 5.0, 5.06])
    pacing = playback.pacing()
    assert len(playback.talkspurts) == 2
    assert pacing.drift_ms == pytest.approx(20, abs=0.1)
    assert pacing.ahead_ms == pytest.approx(40)
    assert pacing.gap_max_ms == pytest.approx(60)


def test_a_phone_bridges_jitter_and_plays_a_gap_when_audio_is_late():
    playback = Playback(0.0)
    packets(playback, [1.0, 1.05, 1.06, 1.25, 2.0])
    samples = np.frombuffer(playback.reply(2.5), "<i2")
    expected = np.zeros(len(samples), bool)
    for begin, end in ((1.0, 1.06), (1.25, 1.27), (2.0, 2.02)):
        expected[round(begin * 16000) : round(end * 16000)] = True
    assert np.array_equal(samples != 0, expected)
    assert len(samples) == 2.5 * 16000
    assert [each.end for each in playback.talkspurts] == pytest.approx([1.27, 2.02], abs=1e-4)


@pytest.mark.parametrize(
    ("speech", "answered"),
    [
        ((0.0, 0.0), True),  # a greeting
        ((1.0, 1.8), True),
        ((1.0, 2.5), True),  # the agent is too early, but goes on
        ((1.0, 3.5), False),  # it gave in
        ((2.2, 2.4), False),  # the caller interrupts it
    ],
)
async def test_what_answers_the_callers_speech(speech, answered):
    playback = Playback(0.0)
    packets(playback, [2 + n * 0.02 for n in range(50)])
    waiting = asyncio.create_task(playback.reply_to(speech))
    await asyncio.sleep(0)
    assert waiting.done() == answered
    packets(playback, [4.0])
    assert (await waiting).start == (2.0 if answered else 4.0)


def test_only_the_next_talkspurt_before_the_caller_goes_on_is_the_reply():
    report = CallReport("", "new", "r", FrameCounts(), caller_speech=[(1.0, 2.0), (2.8, 3.8), (9.0, 10.0)])
    playback = Playback(0.0)
    packets(playback, [1.5, 4.0, 5.0])  # over the first speech, to the second, and once more
    report.talkspurts = playback.talkspurts
    assert report.reply_latencies_ms == pytest.approx([200])


def test_audio_sent_ahead_plays_on():
    playback = Playback(0.0)
    packets(playback, [1.0] * 50 + [1.9])
    assert playback.played == pytest.approx(2.02)
    assert len(playback.talkspurts) == 1


# --- Text on a terminal -----------------------------------------------------------------------------------


def test_text_cannot_steer_the_terminal():
    assert clean("a\x1b[2Jb\r\nc\u2028d\ud800é漢👩‍🚀") == "a [2Jb  c d é漢👩‍🚀"


def test_a_status_line_keeps_the_end_that_fits():
    assert fit("abcdef", 4) == "cdef"
    assert fit("漢字かな", 5) == "かな"
    assert fit("short", 80) == "short"
    assert fit("", 80) == ""
