"""Whole calls: real speech through a real socket into the real models, and intelligible speech back."""

import asyncio
import json

import pytest

from calls.simulator.call import call_url, run_call
from calls.simulator.script import Say, WaitForAgent
from calls.simulator.words import word_error_rate
from tests.e2e.speech import recognise, say

QUESTIONS = ["What is the capital of France?", "Please tell me about your opening hours."]
VOICES = {"seed": "hibari", "new": "slt", "free": "awb", "json": "espeak"}  # by client
UNDERSTOOD = 0.35  # word error rate over a telephone; tests/e2e/test_hearing.py is strict


async def test_a_conversation_with_each_client(agent):
    """All four at once, each with a voice of its own: their conversations do not mix."""
    calls = []
    for client, voice in VOICES.items():
        script = [WaitForAgent(0.5)]
        for question in QUESTIONS:
            script += [Say(say(question, voice)), WaitForAgent(1.0)]
        calls.append(run_call(script, url=agent.url, generation=client, room_id=f"talk-{client}"))
    for client, report in zip(VOICES, await asyncio.gather(*calls), strict=True):
        check_conversation(report)
        await check_stored(agent, client, report)


def check_conversation(report):
    assert report.failure is None
    assert not report.in_vain
    assert report.dropped == []
    assert report.frames.sent >= 0.99 * report.frames.due
    assert report.misfit_audio == report.repeated_frame_ids == 0
    assert report.of("connected")[0]["server"] == "voiceagent"
    assert report.of("error") == []

    heard = " ".join(message["text"] for message in report.of("transcription") if message["is_final"])
    assert word_error_rate(" ".join(QUESTIONS), heard) <= UNDERSTOOD
    assert any(not message["is_final"] for message in report.of("transcription"))
    assert {message["language"] for message in report.of("transcription")} == {"en"}

    spoken = " ".join(message["text"] for message in report.of("tts_started"))
    assert spoken.startswith("Hello, how can I help you today?")
    assert word_error_rate(spoken, recognise(report.reply)) <= 0.35

    # What was told as it happened: sentences, then the whole reply; what was measured.
    replies = [message for message in report.of("llm_response") if message["is_complete"]]
    sentences = [message for message in report.of("llm_response") if not message["is_complete"]]
    assert len(replies) == len(QUESTIONS)
    assert " ".join(r["text"] for r in replies).split() == " ".join(s["text"] for s in sentences).split()
    assert {message["key"] for message in report.of("metrics")} == {
        "stt", "llm_ttft", "tts_ttfb", "turn_latency",
    }  # fmt: skip
    assert len(report.of("tts_completed")) == len(report.of("tts_started"))


async def check_stored(agent, client, report):
    room = f"talk-{client}"
    replies = [message for message in report.of("llm_response") if message["is_complete"]]
    session = await agent.finished(room)
    assert (session["status"], session["end_reason"]) == ("completed", "disconnect")
    assert session["client_generation"] == client
    assert session["turn_count"] == 5
    assert session["median_latency_ms"] > 0
    assert session["audio_in_s"] == pytest.approx(report.frames.sent * 0.01, abs=0.5)
    turns = agent.turns(room)
    assert [turn["speaker"] for turn in turns] == ["agent", "caller", "agent", "caller", "agent"]
    assert turns[0]["text"] == "Hello, how can I help you today?"
    assert word_error_rate(" ".join(QUESTIONS), f"{turns[1]['text']} {turns[3]['text']}") <= UNDERSTOOD
    assert [turn["text"].split() for turn in turns[2::2]] == [reply["text"].split() for reply in replies]
    assert all(turn["end_ms"] > turn["start_ms"] and not turn["interrupted"] for turn in turns)
    assert [turn["start_ms"] for turn in turns] == sorted(turn["start_ms"] for turn in turns)
    assert all(turns[2][name] is not None for name in ("stt_ms", "llm_ms", "tts_ms", "total_ms"))
    assert all(turn["final"] for turn in turns)


async def test_a_profile_without_a_greeting_waits_for_the_caller(agent):
    url = call_url(agent.url, profile="quiet")
    script = [WaitForAgent(1.5, reply=False), Say(say(QUESTIONS[0])), WaitForAgent(1.0)]
    report = await run_call(script, url=url, room_id="quiet")
    assert report.failure is None
    assert report.talkspurts[0].start > report.caller_speech[0][1]
    assert next(turn["speaker"] for turn in agent.turns("quiet")) == "caller"


async def test_the_voice_as_binary_messages(agent):
    url = call_url(agent.url, audio="binary", profile="long")
    report = await run_call([WaitForAgent(0.5)], url=url, generation="new", room_id="binary")
    assert report.failure is None
    assert report.of("audio") == []
    assert "pizza" in recognise(report.reply)


async def test_what_the_client_sends_along_is_stored(agent):
    url = call_url(agent.url, caller="+15551234", metadata='{"campaign": "spring"}')
    await run_call(
        [WaitForAgent(0.3)], url=url, room_id="along", system_prompt="Be brief.", extensions={"callee": "100"}
    )
    session = await agent.finished("along")
    assert (session["caller"], session["callee"]) == ("+15551234", "100")
    assert json.loads(session["metadata"]) == {"campaign": "spring"}
    configs = json.loads(session["client_configs"])
    assert configs["llm"]["model"] == "gpt-4o-mini"  # recorded, and otherwise ignored:
    assert json.loads(session["in_force"])["llm"]["provider"] == "local"


async def test_an_unknown_profile_is_an_error_and_the_default_answers(agent):
    report = await run_call([WaitForAgent(0.3)], url=call_url(agent.url, profile="nobody"), room_id="nobody")
    assert [error["code"] for error in report.of("error")] == [404]
    assert "nobody" in report.of("error")[0]["message"]
    assert agent.turns("nobody")[0]["text"].startswith("Hello")
    assert ["nobody" in event["message"] for event in agent.events("nobody")] == [True]
