"""Taking turns: interrupting, being patient, farewell, and what the model is told of it all."""

import asyncio
import json

from calls.simulator.call import call_url, run_call
from calls.simulator.script import Interrupt, Say, Send, Wait, WaitForAgent
from calls.simulator.words import word_error_rate, words_of
from tests.cloud.openai import KEY, ChatCompletions
from tests.e2e.conftest import LONG_GREETING, PROFILES
from tests.e2e.server import AgentServer
from tests.e2e.speech import RATE, recognise, say

ORDER = "I would like to order two large pizzas."
HOURS = "Please tell me about your opening hours."
VAD_START_S = 0.2  # of speech before it counts as speech
WINDOW_S = 0.032
SLACK_S = 0.35  # of a busy machine; the benchmark measures what it really takes


async def test_the_agent_falls_silent_when_the_caller_speaks(agent):
    """With each client, in calls at the same time."""
    url = call_url(agent.url, profile="long")
    script = [Interrupt(say(ORDER), after_s=2.0), WaitForAgent(1.0)]
    calls = [
        run_call(script, url=url, generation=client, room_id=f"barge-in-{client}")
        for client in ("seed", "new", "free")
    ]
    for report in await asyncio.gather(*calls):
        await check_interrupted(agent, report)


async def check_interrupted(agent, report):
    assert report.failure is None
    room = report.room_id
    spoke_until = report.talkspurts[0].end
    onset = report.caller_speech[0][0]
    assert spoke_until - onset < VAD_START_S + WINDOW_S + 0.1 + SLACK_S

    await agent.finished(room)
    greeting, order, *rest = agent.turns(room)
    assert greeting["interrupted"]
    assert LONG_GREETING.startswith(greeting["text"])
    assert 3 <= len(greeting["text"].split()) < len(LONG_GREETING.split()) / 2
    # What is stored as spoken is what the caller heard.
    heard = recognise(report.reply[: int(spoke_until * 16_000) * 2])
    assert word_error_rate(greeting["text"], heard) <= 0.35
    assert word_error_rate(ORDER, order["text"]) <= 0.2
    assert [turn["speaker"] for turn in rest] == ["agent"]
    kinds = [event["kind"] for event in agent.events(room)]
    assert [kind for kind in kinds if kind != "shortened"] == ["interruption"]  # of 16 tokens a reply
    cut_off = [message["text"] for message in report.of("tts_completed")][: len(report.of("tts_started"))]
    assert any(text in LONG_GREETING and not text.endswith(".") for text in cut_off)


async def test_a_profile_may_forbid_interrupting(agent):
    url = call_url(agent.url, profile="stubborn")
    script = [Interrupt(say(ORDER), after_s=2.0), WaitForAgent(2.0, reply=False)]
    report = await run_call(script, url=url, room_id="stubborn")
    assert report.failure is None
    await agent.finished("stubborn")
    greeting = agent.turns("stubborn")[0]
    assert (greeting["text"], bool(greeting["interrupted"])) == (LONG_GREETING, False)
    assert any(word_error_rate(ORDER, turn["text"]) <= 0.2 for turn in agent.turns("stubborn")[1:])


async def test_silence_may_decide_that_a_turn_is_over(agent):
    """Two sentences with a pause shorter than the profile's two seconds are one turn."""
    url = call_url(agent.url, profile="patient")
    script = [Say(say(HOURS)), Wait(0.3), Say(say(ORDER)), WaitForAgent(1.0)]
    report = await run_call(script, url=url, room_id="patient")
    assert report.failure is None
    await agent.finished("patient")
    caller, _agent = agent.turns("patient")
    assert word_error_rate(f"{HOURS} {ORDER}", caller["text"]) <= 0.2
    assert report.talkspurts[0].start - report.caller_speech[-1][1] >= 1.9


async def test_the_longest_duration_ends_with_the_farewell(agent):
    """One caller listens to it, the other speaks into it: both hear it to its end, then the socket closes."""
    url = call_url(agent.url, profile="short")
    listening = run_call([WaitForAgent(60, timeout_s=60)], url=url, room_id="listens")
    at_once = say(ORDER)[RATE:]  # without the half second before its first word
    speaking = run_call([Interrupt(at_once, after_s=0.1), Wait(60)], url=url, room_id="speaks")
    for report in await asyncio.gather(listening, speaking):
        assert (report.closed_by, report.close_code) == ("server", 1000)
        assert word_error_rate("Our time is over, goodbye.", recognise(report.reply)) <= 0.25
        session = await agent.finished(report.room_id)
        assert (session["end_reason"], session["status"]) == ("max_duration", "completed")
        farewell = agent.turns(report.room_id)[-1]
        assert (farewell["text"], bool(farewell["interrupted"])) == ("Our time is over, goodbye.", False)
        (event,) = agent.events(report.room_id)
        assert (event["kind"], event["severity"]) == ("hang_up", "warning")  # this client cannot be hung up
    spoke_from, _ = report.caller_speech[0]
    assert spoke_from + 2 * VAD_START_S < report.talkspurts[0].end - 0.5


async def test_what_the_model_is_told(tmp_path):
    """The greeting, what was really said of an interrupted reply, a prompt that changes in the call."""
    model = ChatCompletions(
        "We are open from nine in the morning until five in the afternoon on every day of the week.",
        "Two large pizzas are on their way.",
        "You are welcome.",
    )
    profiles = [{**profile, "llm_provider": "openai"} for profile in PROFILES]
    async with model.running() as url:
        with AgentServer(tmp_path, profiles=profiles, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=url) as server:
            script = [
                WaitForAgent(0.5),
                Say(say(HOURS)),
                Interrupt(say(ORDER), after_s=1.5),
                WaitForAgent(1.0),
                Send({"command": "configure", "room_id": "told", "system_prompt": "Now be formal.",
                      "stt_config": None, "llm_config": None, "tts_config": None}),
                Say(say("Thank you very much.")),
                WaitForAgent(1.0),
            ]  # fmt: skip
            report = await run_call(
                script, url=server.url, room_id="told", system_prompt="The caller is Ann."
            )
            assert report.failure is None
            await server.finished("told")
            turns = server.turns("told")
            events = server.events("told")
    first, second, third = [request.body["messages"] for request in model.requests]
    assert first[0] == {"role": "system", "content": "Answer in one short sentence.\n\nThe caller is Ann."}
    assert first[1] == {"role": "assistant", "content": "Hello, how can I help you today?"}
    assert [message["role"] for message in first] == ["system", "assistant", "user"]
    assert word_error_rate(HOURS, first[2]["content"]) <= 0.2

    # The interrupted reply, as far as it was spoken: the same in the context as in the store.
    interrupted = next(turn for turn in turns if turn["interrupted"])
    assert second[3] == {"role": "assistant", "content": interrupted["text"]}
    whole = "We are open from nine in the morning until five in the afternoon"
    assert 2 <= len(words_of(interrupted["text"])) < len(words_of(whole))
    assert whole.startswith(interrupted["text"])

    assert third[0] == {"role": "system", "content": "Answer in one short sentence.\n\nNow be formal."}
    assert [message["role"] for message in third[1:]] == [message["role"] for message in second[1:]] + [
        "assistant",
        "user",
    ]
    assert len(report.of("configured")) == 2
    assert [event["kind"] for event in events] == ["interruption", "configuration"]


async def test_the_profile_decides_what_a_client_may_change(agent, model_socket):
    """Two clients say the same: what one profile takes over, another records and otherwise ignores."""
    model = ChatCompletions("We are open from nine until five.")
    tts = {"model": "aura-asteria-en", "voice": "nobody", "speed": 1.5}
    formal = {"command": "configure", "room_id": "", "system_prompt": "Now be formal.",
              "stt_config": None, "llm_config": None, "tts_config": None}  # fmt: skip
    script = [Say(say(HOURS)), WaitForAgent(0.5), Send(formal), Say(say(HOURS)), WaitForAgent(0.5)]
    async with model.running(model_socket):
        reports = await asyncio.gather(
            *(
                run_call(
                    script, url=call_url(agent.url, profile=profile), generation=client, room_id=profile,
                    system_prompt="The caller is Ann.", extensions={"tts_config": tts},
                )
                for profile, client in (("obedient", "seed"), ("headstrong", "free"))
            )
        )  # fmt: skip
    in_force = {}
    for report in reports:
        assert report.failure is None
        assert report.of("error") == report.in_vain == []
        assert len(report.of("configured")) == 2
        session = await agent.finished(report.room_id)
        assert session["client_generation"] == report.generation
        in_force[report.room_id] = {
            kind: {"provider": answer["provider"], **answer["settings"]}
            for kind, answer in json.loads(session["in_force"]).items()
        }
        assert json.loads(session["client_configs"]) == {
            "system_prompt": "The caller is Ann.",
            "stt": {"sample_rate": 16_000, "language": "en", "model": "nova"},
            "llm": {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
            "tts": tts,
        }

    asked = {"gpt-4o-mini": [], "gpt-4.1": []}
    for body in (request.body for request in model.requests):
        (prompt,) = [message["content"] for message in body["messages"] if message["role"] == "system"]
        asked[body["model"]].append((prompt, body["max_completion_tokens"], body.get("temperature")))
    own = "Answer in one short sentence."
    assert asked["gpt-4o-mini"] == [("The caller is Ann.", 150, 0.7), ("Now be formal.", 150, 0.7)]
    assert asked["gpt-4.1"] == [(own, 40, None), (own, 40, None)]
    assert in_force["obedient"] == {
        "stt": {"provider": "local", "language": "en", "model": "moonshine-tiny-en"},
        "llm": {"provider": "openai", "model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
        "tts": {"provider": "local", "voice": "heart", "speed": 1.5},
    }
    assert in_force["headstrong"] == {
        "stt": {"provider": "local", "model": "moonshine-tiny-en"},
        "llm": {"provider": "openai", "model": "gpt-4.1", "max_tokens": 40},
        "tts": {"provider": "local", "voice": "heart", "speed": 1.0},
    }
    obedient, headstrong = reports
    assert obedient.audio_s < 0.8 * headstrong.audio_s
