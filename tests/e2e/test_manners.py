"""What a profile's manners do in calls, all of them of one server at the same time."""

import asyncio
import json

import pytest

from calls.simulator.call import call_url, run_call
from calls.simulator.line import noisy
from calls.simulator.script import Interrupt, Say, Wait, WaitForAgent
from calls.simulator.words import word_error_rate, words_of
from tests.cloud.openai import KEY, ChatCompletions
from tests.e2e.conftest import LONG_GREETING, SHORT
from tests.e2e.server import AgentServer
from tests.e2e.speech import recognise, say

HOURS = "Please tell me about your opening hours."
FAREWELL = "Thank you for calling. Have a nice day."
ANSWER = "We are open from nine until five."
LAST_ANSWER = "It is all done, so I say goodbye."
MODEL = {"llm_provider": "openai", "system_prompt": 'Answer {{ metadata.name|default:"the caller" }}.'}
PROFILES = [
    {**MODEL, "slug": "template", "is_default": True,
     "greeting": "Hello {{ metadata.name|default:\"stranger\" }}, this is {{ profile }}. {{ unknown }}"},
    {**MODEL, "slug": "listener", "opens": "caller", "greeting": "Good morning to you."},
    {**MODEL, "slug": "polite", "end_phrases": "See you\nGoodbye", "greeting": "Hello. Goodbye.",
     "farewell": FAREWELL},
    {**SHORT, "slug": "calm", "interruption_words": 3, "greeting": LONG_GREETING},
    {**SHORT, "slug": "slow", "speech_speed": 0.5, "greeting": "You have reached our office."},
    {**SHORT, "slug": "fast", "speech_speed": 2.0, "greeting": "You have reached our office."},
    {**MODEL, "slug": "spare", "llm_provider": "gone", "llm_fallback": "openai", "tts_provider": "cartesia",
     "tts_fallback": "gone too"},
    {**SHORT, "slug": "clean", "noise_suppression": True, "end_of_turn": "silence",
     "end_of_turn_silence_s": 3.0},
]  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory, model_socket):
    """A server with these profiles; its calls are kept, but those of `clean`."""
    url = f"http://127.0.0.1:{model_socket.getsockname()[1]}/v1"
    folder = tmp_path_factory.mktemp("manners")
    with AgentServer(folder, profiles=PROFILES, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=url) as server:
        yield server


async def call(server, slug, script, room="", **told):
    """A call of the profile, from its report."""
    url = call_url(server.url, profile=slug, **told)
    report = await run_call(script, url=url, room_id=room or slug)
    await server.finished(report.room_id)
    return report


def said(server, room):
    return [(turn["speaker"], turn["text"]) for turn in server.turns(room)]


async def test_texts_tell_what_is_known_of_the_call(server, model_socket):
    model = ChatCompletions(ANSWER)
    metadata, asking = json.dumps({"name": "Ann"}), [WaitForAgent(0.5), Say(say(HOURS)), WaitForAgent(0.5)]
    async with model.running(model_socket):
        known, _ = await asyncio.gather(
            call(server, "template", asking, "known", metadata=metadata),
            call(server, "template", [WaitForAgent(0.5)], "unknown"),
        )
    assert said(server, "known")[0] == ("agent", "Hello Ann, this is template.")
    assert said(server, "unknown") == [("agent", "Hello stranger, this is template.")]
    assert "stranger" not in recognise(known.reply)
    assert model.requests[0].body["messages"][0]["content"] == "Answer Ann."


async def test_the_caller_may_open(server, model_socket):
    async with ChatCompletions(ANSWER).running(model_socket):
        await call(server, "listener", [Wait(2.0), Say(say(HOURS)), WaitForAgent(0.5)])
    (first, _), (second, answer) = said(server, "listener")
    assert (first, second, answer) == ("caller", "agent", ANSWER)


async def test_a_phrase_of_the_caller_ends_the_call_with_the_farewell(server, model_socket):
    """Only at the end of what he says; the greeting that ends with one ends nothing."""
    script = [
        WaitForAgent(0.5),
        Say(say("May I say goodbye to the manager?")),
        WaitForAgent(0.5),
        Say(say("Thank you very much and goodbye.")),
        Wait(60),
    ]
    model = ChatCompletions(ANSWER)
    async with model.running(model_socket):
        report = await call(server, "polite", script)
    assert len(model.requests) == 1
    assert (report.closed_by, report.close_code) == ("server", 1000)
    session = await server.finished("polite")
    assert (session["end_reason"], session["status"]) == ("hung_up", "completed")
    agents = [text for speaker, text in said(server, "polite") if speaker == "agent"]
    assert agents == ["Hello. Goodbye.", ANSWER, FAREWELL]
    assert word_error_rate(FAREWELL, recognise(report.reply[-16_000 * 2 * 5 :])) <= 0.3
    (event,) = server.events("polite")
    assert event["message"].startswith("the caller said “Goodbye”; ")


async def test_a_phrase_of_the_agent_ends_the_call_once_it_is_spoken(server, model_socket):
    async with ChatCompletions(LAST_ANSWER).running(model_socket):
        report = await call(server, "polite", [WaitForAgent(0.5), Say(say(HOURS)), Wait(60)], "agent-ends")
    assert report.closed_by == "server"
    assert said(server, "agent-ends")[-1] == ("agent", LAST_ANSWER)
    assert recognise(report.reply).endswith("goodbye")
    (event,) = server.events("agent-ends")
    assert event["message"].startswith("the agent said “Goodbye”; ")


async def test_few_words_do_not_interrupt_and_enough_do(server):
    """They stay a turn of their own, which nobody answers."""
    yes, order = say("All right."), "I would like to order two large pizzas."
    script = [Interrupt(yes, after_s=1.5), Wait(2.0), Say(say(order)), WaitForAgent(0.5)]
    report = await call(server, "calm", script)
    assert report.failure is None
    turns = server.turns("calm")
    greeting = next(turn for turn in turns if turn["speaker"] == "agent")
    assert greeting["interrupted"]
    heard = [turn["text"] for turn in turns if turn["speaker"] == "caller"]
    assert 1 <= len(words_of(heard[0])) < 3
    assert word_error_rate(order, heard[1]) <= 0.3
    assert len([event for event in server.events("calm") if event["kind"] == "interruption"]) == 1
    before, after = (turn["start_ms"] for turn in turns if turn["speaker"] == "caller")
    assert before < after - 2000
    # It went on speaking over the few words.
    (_, few_until), (enough_from, _), *_ = report.caller_speech
    assert max(spurt.end for spurt in report.talkspurts if spurt.start < enough_from) > few_until + 1.5


async def test_the_voice_speaks_at_its_speed(server):
    slow, fast = await asyncio.gather(*(call(server, slug, [WaitForAgent(0.5)]) for slug in ("slow", "fast")))
    lasted = [sum(spurt.end - spurt.start for spurt in report.talkspurts) for report in (slow, fast)]
    assert lasted[0] > 2 * lasted[1]
    in_force = json.loads((await server.finished("slow"))["in_force"])
    assert in_force["tts"]["settings"]["speed"] == 0.5


async def test_fallbacks_answer_for_providers_that_cannot_be_used(server, model_socket):
    """The one that is named, and the embedded one if that cannot be used either."""
    async with ChatCompletions(ANSWER).running(model_socket):
        await call(server, "spare", [Say(say(HOURS)), WaitForAgent(0.5)])
    assert said(server, "spare")[-1] == ("agent", ANSWER)
    session = await server.finished("spare")
    in_force = json.loads(session["in_force"])
    assert [in_force[kind]["provider"] for kind in ("stt", "llm", "tts")] == ["local", "openai", "local"]
    assert [in_force[kind].get("instead_of") for kind in ("stt", "llm", "tts")] == [None, "gone", "cartesia"]
    llm, tts = (event["message"] for event in server.events("spare"))
    assert llm.endswith("; openai stands in")
    assert tts.endswith("; the embedded one, in English, stands in")


async def test_a_caller_in_noise_is_heard(server):
    """As noisy as a street; what it does to the noise itself, tests/test_noise.py shows."""
    report = await call(server, "clean", [Wait(1.0), Say(noisy(say(HOURS), 10)), Wait(2.0)])
    finals = [message["text"] for message in report.of("transcription") if message["is_final"]]
    assert word_error_rate(HOURS, " ".join(finals)) <= 0.3
