"""`manage.py simulatecall` as a person and as a program run it, against tiny servers."""

import asyncio
import io
import json
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from django.core.management import CommandError, call_command
from websockets.asyncio.server import serve

from tests.test_simulator import agent, greet, message, say_nothing, speak, tone, toy_server

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def speech(tmp_path):
    """A stereo recording at 44.1 kHz."""
    path = tmp_path / "speech.wav"
    soundfile.write(path, np.column_stack([tone(0.5, rate=44100)] * 2), 44100)
    return path


class Terminal(io.StringIO):
    """A terminal of some encoding, as far as the command can tell."""

    encoding = "utf-8"

    def isatty(self):
        return True


async def simulate(speech, *options, out=None):
    """Run the command with a recording in a thread; its output."""
    return await simulate_with(str(speech), *options, out=out)


async def simulate_with(*options, out=None):
    """Run the command in a thread; its output."""
    out = out if out is not None else io.StringIO()
    # The command runs an event loop of its own, which this one must not be in the thread of.
    await asyncio.to_thread(call_command, "simulatecall", *options, stdout=out)
    return out.getvalue()


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


# --- What it prints ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", ["seed", "new", "free", "json"])
async def test_the_conversation_and_the_summary_are_told(speech, client):
    async with toy_server(agent) as url:
        text = await simulate(speech, "--url", url, "--client", client, "--hold", "1", "--after-greeting")
    told = [line.partition(" s  ")[2] for line in text.splitlines()]
    order = [
        " agent: Guten Tag – 您好 👋",
        "(caller speaks for 0.5 s)",
        "caller: hello",
        " agent: Hello yourself.",
    ]
    assert [line for line in told if line in order] == order
    assert "hel\n" not in text  # partial transcripts are for terminals
    assert "\r" not in text
    assert "\x1b" not in text
    assert f"Call         {client} client" in text
    assert "Audio        50 messages, 1.0 s; 0 not a 20 ms packet" in text
    assert "Turns        3" in text
    for title in ("Frames", "Pings", "First audio", "Pacing", "Dropped"):
        assert f"\n{title}" in text


async def test_a_terminal_shows_partials_in_place(speech):
    async with toy_server(agent) as url:
        text = await simulate(speech, "--url", url, "--hold", "1", out=Terminal())
    assert "\r\x1b[K" in text
    partial = next(piece for piece in text.split("\r\x1b[K") if piece.endswith("caller… hel"))
    assert "\n" not in partial


async def test_an_output_that_lacks_the_characters_gets_others(speech):
    out = Terminal()
    out.encoding = "ascii"
    async with toy_server(agent) as url:
        text = await simulate(speech, "--url", url, "--hold", "1", out=out)
    assert "Guten Tag ? ?? ?" in text
    assert text.isascii()


async def test_json_is_one_object_a_line(speech):
    async with toy_server(agent) as url:
        lines = json_lines(await simulate(speech, "--url", url, "--hold", "1", "--json"))
    assert all({"event", "ms"} <= line.keys() for line in lines)
    partial, final = [line for line in lines if line["event"] == "transcription"]
    assert (partial["text"], partial["is_final"]) == ("hel", False)
    assert (final["text"], final["speaker"], final["call"]) == ("hello", "caller", 1)
    assert next(line["text"] for line in lines if line["event"] == "tts_started") == "Guten Tag – 您好 👋"
    summary = lines[-1]
    assert summary["event"] == "summary"
    assert summary["failure"] is None
    assert summary["frames_sent"] > 100
    assert summary["turns"] == 3
    assert 15 < summary["pacing"]["gap_p50_ms"] < 25


async def test_messages_a_client_would_drop_are_listed(speech):
    async def server(socket):
        await greet(socket)
        await socket.send(message("tts_started", text=7))
        await socket.send(message("tts_started", text="one"))
        await socket.wait_closed()

    async with toy_server(server) as url:
        text = await simulate(speech, "--url", url, "--hold", "0")
        lines = json_lines(await simulate(speech, "--url", url, "--hold", "0", "--json"))
    assert "Dropped      1 messages" in text
    assert "tts_started: text must be a string, got 7" in text
    assert lines[-1]["dropped_messages"] == 1
    assert lines[-1]["dropped"][0]["reason"] == "tts_started: text must be a string, got 7"


# --- What it does -----------------------------------------------------------------------------------------


async def test_the_reply_is_written_from_the_calls_start(speech, tmp_path):
    reply = tmp_path / "reply.wav"
    async with toy_server(agent) as url:
        text = await simulate(speech, "--url", url, "--hold", "0.5", "--json", "--out", str(reply))
    samples, rate = soundfile.read(reply, dtype="int16")
    assert rate == 16000
    assert samples.ndim == 1
    first = next(line["ms"] for line in json_lines(text) if line["event"] == "agent_speaks")
    assert np.flatnonzero(samples)[0] / 16 == pytest.approx(first, abs=1)
    assert np.count_nonzero(samples) == 50 * 320


async def test_the_options_reach_the_server(speech):
    asked = []

    async def server(socket):
        asked.append((socket.request.path, await greet(socket)))
        await socket.send(message("llm_response", text="Ja.", is_complete=True))
        await socket.wait_closed()

    async with toy_server(server) as url:
        await simulate(
            speech,
            *("--url", url, "--hold", "0", "--profile", "sales", "--token", "a&b", "--caller", "+1555"),
            *("--prompt", "Sei höflich", "--binary"),
        )
    path, configure = asked[0]
    assert path == "/ws/rustpbx?profile=sales&token=a%26b&caller=%2B1555&audio=binary"
    assert configure["system_prompt"] == "Sei höflich"


async def test_text_is_spoken_by_a_voice_over_a_telephone_after_the_recordings(speech):
    """Each waits for the reply to the one before."""
    heard = []

    async def server(socket):
        await greet(socket)
        async for frame in socket:
            if isinstance(frame, bytes):
                heard.append(frame)
            if len(heard) in (100, 500) and isinstance(frame, bytes):
                await speak(socket, 0.2)

    async with toy_server(server) as url:
        options = ["--say", "Are you open on Sunday?", "--voice", "slt", "--line", "telephone"]
        text = await simulate(speech, *options, "--url", url, "--client", "free", "--hold", "1")
    spoken = [line for line in text.splitlines() if "caller speaks" in line]
    assert len(spoken) == 2
    assert "for 0.5 s" in spoken[0]
    samples = np.frombuffer(b"".join(heard), "<i2")[16000:].astype(float)
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / 16000)
    assert power[hz > 4000].sum() < 0.001 * power.sum()


async def test_the_reply_can_be_listened_to(speech, tmp_path, monkeypatch):
    """By the first player that finds a speaker; without one, the file is named."""
    players = tmp_path / "bin"
    players.mkdir()
    monkeypatch.setenv("PATH", str(players))
    out = tmp_path / "reply.wav"
    async with toy_server(agent) as url:
        options = ["--url", url, "--hold", "0.5", "--listen", "--out", str(out)]
        assert f"No speaker here: the reply is in {out}" in await simulate(speech, *options)
        played = tmp_path / "played"
        for name, line in {"paplay": "exit 1", "aplay": f'echo "$2" > {played}'}.items():
            (players / name).write_text(f"#!/bin/sh\n{line}\n")
            (players / name).chmod(0o755)
        assert f"Played by aplay; it is in {out}" in await simulate(speech, *options)
        assert played.read_text().strip() == str(out)


async def test_of_several_calls_the_first_is_listened_to(speech, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    out = tmp_path / "reply.wav"
    async with toy_server(agent) as url:
        options = ["--url", url, "--hold", "0.5", "--calls", "2", "--listen", "--out", str(out)]
        assert f"the reply is in {tmp_path / 'reply-1.wav'}" in await simulate(speech, *options)


async def test_a_synthesiser_that_fails_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "flite").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "flite").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(CommandError, match=r"the voice slt can't say 'Hello\.': .*exit status 3"):
        await simulate_with("--say", "Hello.", "--voice", "slt")


async def test_many_calls_at_once(speech, tmp_path):
    present, most, rooms = set(), [], set()

    async def server(socket):
        configure = await greet(socket)
        rooms.add(configure["room_id"])
        present.add(socket)
        most.append(len(present))
        await socket.send(message("error", message="too busy", code=429))
        await socket.send(message("llm_response", text="Ja.", is_complete=True))
        await socket.wait_closed()
        present.discard(socket)

    options = ("--calls", "3", "--hold", "0", "--out", str(tmp_path / "reply.wav"))
    async with toy_server(server) as url:
        text = await simulate(speech, "--url", url, *options)
        lines = json_lines(await simulate(speech, "--url", url, *options, "--json"))
    assert max(most) == 3
    assert len(rooms) == 6
    assert [text.count(f"\ncall {n}: ok;") + text.startswith(f"call {n}: ok;") for n in (1, 2, 3)] == [
        1,
        1,
        1,
    ]
    assert "Calls        3, 0 failed" in text
    assert "3 times 429 too busy" in text
    assert [line["event"] for line in lines].count("call") == 3
    assert (lines[-1]["event"], lines[-1]["calls"], lines[-1]["failed"]) == ("summary", 3, 0)
    assert {path.name for path in tmp_path.glob("reply*")} == {"reply-1.wav", "reply-2.wav", "reply-3.wav"}


# --- Failures ---------------------------------------------------------------------------------------------


async def test_a_failed_call_is_an_error_after_its_summary(speech):
    out = io.StringIO()
    async with toy_server(say_nothing) as url:
        with pytest.raises(CommandError, match="the call failed: the server sent no `configured`"):
            await simulate(speech, "--url", url, "--hold", "0", "--json", out=out)
    assert json_lines(out.getvalue())[-1]["failure"] == "the server sent no `configured`"


async def test_an_agent_that_does_not_answer_fails_the_call(speech):
    async def server(socket):
        await greet(socket)
        await socket.send(message("tts_started", text="Hello."))
        await socket.wait_closed()

    async with toy_server(server) as url:
        with pytest.raises(CommandError, match="the call failed: the agent did not answer"):
            await simulate(speech, "--url", url, "--hold", "0.3")
        await simulate(speech, "--url", url, "--hold", "0")


async def test_one_of_several_calls_fails(speech):
    calls = []

    async def server(socket):
        calls.append(socket)
        if len(calls) == 2:
            await socket.close(1011, "sorry")
        await agent(socket)

    async with toy_server(server) as url:
        with pytest.raises(
            CommandError, match=r"1 of 2 calls failed: the server closed .* \(code 1011 'sorry'\)"
        ):
            await simulate(speech, "--url", url, "--hold", "0.3", "--calls", "2")


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["missing.wav"], "No such file"),
        ([__file__], "is not a sound file"),
        ([str(ROOT)], "Is a directory"),
        (["SPEECH", "--out", "/nowhere/reply.wav"], "/nowhere is no folder"),
        (["SPEECH", "--calls", "0"], "must be 1 or more"),
        (["SPEECH", "--hold", "-1"], "must be a number of seconds"),
        (["SPEECH", "--hold", "nan"], "must be a number of seconds"),
        (["SPEECH", "--client", "old"], "invalid choice"),
        (["SPEECH", "--line", "string"], "invalid choice"),
        (["SPEECH", "--voice", "nobody"], "invalid choice"),
        ([], "a WAV file or --say TEXT expected"),
        (["--say", "  "], "'  ' has no sound in it"),
        (["SPEECH", "--out", str(ROOT)], "is a folder, not a file"),
        (["SPEECH", "--url", "nonsense"], "WebSocket address"),
    ],
)
async def test_wrong_options_say_so(speech, options, why):
    with pytest.raises(CommandError, match=why):
        await simulate_with(*(str(speech) if option == "SPEECH" else option for option in options))


async def run_manage(*arguments, **environment):
    """Start `manage.py simulatecall` as a process of its own."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, str(ROOT / "manage.py"), "simulatecall", *map(str, arguments)),
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def test_it_needs_no_database_and_exits_with_0(speech):
    async with toy_server(agent) as url:
        process = await run_manage(
            *(speech, "--url", url, "--hold", "1", "--json"),
            DATABASE_URL="postgres://nobody:nothing@127.0.0.1:1/none",
            REDIS_URL="redis://127.0.0.1:1/0",
        )
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    assert json_lines(out.decode())[-1]["turns"] == 3


async def test_a_failure_is_one_line_and_a_status(speech):
    async with serve(lambda socket: None, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
    process = await run_manage(speech, "--url", f"ws://127.0.0.1:{port}/ws/rustpbx", "--token", "secret")
    out, err = await process.communicate()
    assert process.returncode == 1
    (line,) = err.decode().splitlines()
    assert line.endswith(f"cannot connect to ws://127.0.0.1:{port}/ws/rustpbx: Connection refused")
    assert out == b""
    assert "secret" not in (out + err).decode()


async def test_ctrl_c_hangs_up(speech):
    connected, ended = asyncio.Event(), asyncio.Event()
    received = []

    async def server(socket):
        await greet(socket)
        connected.set()
        async for text in socket:
            received.append(text)
        ended.set()

    async with toy_server(server) as url:
        process = await run_manage(speech, "--url", url, "--hold", "60", "--client", "free")
        await asyncio.wait_for(connected.wait(), 30)
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
        await asyncio.wait_for(ended.wait(), 5)
    assert process.returncode == 130
    assert err.decode().splitlines() == ["CommandError: interrupted"]
    assert json.loads(received[-1])["command"] == "disconnect"


async def test_a_reader_that_leaves_ends_the_call(speech):
    async with toy_server(agent) as url:
        process = await run_manage(speech, "--url", url, "--hold", "60")
        await process.stdout.readline()
        process.stdout._transport.close()  # as `| head -1` does
        err = await process.stderr.read()
        await process.wait()
    assert process.returncode == 1
    assert b"Traceback" not in err
