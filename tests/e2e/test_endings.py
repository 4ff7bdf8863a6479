"""How a call ends when RustPBX does not say so, and what the addresses are that it is configured with."""

import asyncio
from datetime import datetime

import pytest

from calls.simulator.call import call_url, run_call
from calls.simulator.script import Interrupt, Say, Wait, WaitForAgent
from tests.e2e.speech import recognise, say

STOPPED_S = 15  # without audio, a call is over


def seconds_of(session):
    started, ended = (datetime.fromisoformat(session[name]) for name in ("started_at", "ended_at"))
    return (ended - started).total_seconds()


async def test_a_hang_up_that_nobody_tells_ends_the_call_as_of_its_last_frame(agent):
    """Whatever pings go on; those of RustPBX come every 30 s, and may come just before or at the limit."""

    async def call(generation, ping_s):
        room = f"silent-{generation}-{ping_s}"
        script = [WaitForAgent(0.3), Wait(1.0)]
        report = await run_call(
            script, url=agent.url, generation=generation, room_id=room, hang_up="silent", ping_s=ping_s
        )
        session = await agent.finished(room)
        assert (report.failure, report.closed_by, report.close_code) == (None, "server", 1000)
        assert report.noticed_s == pytest.approx(STOPPED_S, abs=1)
        assert 40 <= report.pings_unheard <= 50 + 2 * STOPPED_S  # 50 in the first second, then one a second
        assert (session["status"], session["end_reason"]) == ("completed", "audio_ended")
        assert session["client_generation"] == generation
        hung_up_s = report.duration_s - report.noticed_s
        assert seconds_of(session) == pytest.approx(hung_up_s, abs=0.5)
        assert session["audio_in_s"] == pytest.approx(hung_up_s, abs=0.5)

    every = ((generation, ping_s) for generation in ("seed", "new") for ping_s in (1.0, 14.9, 15.0))
    await asyncio.gather(*(call(*each) for each in every))


@pytest.mark.parametrize("binary", [False, True])
async def test_an_address_without_a_path_and_a_telephone_of_8_khz(agent, binary):
    """RustPBX's defaults have no path; its telephones with PCMU or PCMA play 16 kHz at half speed."""
    audio = "binary" if binary else None
    url = call_url(f"ws://127.0.0.1:{agent.port}", profile="long", rate="8000", audio=audio)
    report = await run_call([WaitForAgent(0.5)], url=url, rate=8000, room_id=f"narrow-{binary}")
    assert report.failure is None
    assert report.misfit_audio == report.repeated_frame_ids == 0
    assert report.of("error") == []
    assert "pizza" in recognise(report.reply)
    session = await agent.finished(f"narrow-{binary}")
    assert session["audio_out_s"] == pytest.approx(report.audio_s, abs=0.1)


async def test_an_interruption_stops_the_voice_at_8_khz(agent):
    """Nothing is sent ahead: what the caller heard is what was sent, and what is stored."""
    url = call_url(agent.url, profile="long", rate="8000")
    script = [Interrupt(say("Stop please, I have a question."), after_s=1.0), Wait(1.0)]
    report = await run_call(script, url=url, rate=8000, room_id="cut-8000")
    assert report.failure is None
    assert report.misfit_audio == 0
    await agent.finished("cut-8000")
    greeting = agent.turns("cut-8000")[0]
    assert greeting["interrupted"]
    heard_s = sum(arrival.length for arrival in report.talkspurts[0].arrivals)
    assert heard_s < 6  # of the 10 it takes
    spoken = " ".join(message["text"] for message in report.of("tts_completed"))
    assert spoken.startswith(greeting["text"])
    assert "every day of the week" not in spoken


async def test_a_rate_that_is_none_is_refused_and_the_call_goes_on(agent):
    url = call_url(agent.url, rate="44100")
    script = [WaitForAgent(0.3), Say(say("What is the capital of France?")), WaitForAgent(0.5)]
    report = await run_call(script, url=url, room_id="rate")
    (error,) = report.of("error")
    assert (error["code"], error["message"]) == (
        422,
        "expected rate in the URL to be 8000 or 16000, got '44100'",
    )
    assert report.failure is None
    await agent.finished("rate")
    assert [event["message"] for event in agent.events("rate")] == [error["message"]]
