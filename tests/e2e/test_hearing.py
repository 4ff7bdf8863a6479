"""What the agent hears of real telephones: several voices, people, and sounds that are no speech."""

import asyncio

import numpy as np

from calls.simulator.audio import read_wav
from calls.simulator.call import call_url, run_call
from calls.simulator.line import gain, noisy
from calls.simulator.script import Say, Wait, WaitForAgent
from calls.simulator.voices import prompts
from calls.simulator.words import word_error_rate, word_errors, words_of
from tests.e2e.speech import RATE, say
from tests.test_phantoms import sounds

VOICES = ["hibari", "slt", "rms", "awb", "espeak"]
SENTENCES = [
    "What are your opening hours on Saturday?",
    "I would like to book a table for two.",
    "Can you tell me the weather tomorrow?",
    "How much does it cost to repair a bicycle?",
    "I need to change my appointment to Friday morning.",
    "I want to cancel my order.",
    "Please send the invoice to my new address.",
    "Could I speak to somebody in the sales department?",
    "When will my parcel arrive?",
    "My name is Peter Miller.",
    "I have been waiting for an hour.",
    "What is the price of a room with breakfast?",
    "Thank you very much.",
    "Can you help me with my account?",
    "How do I get to your shop from the station?",
    "Please tell me about your opening hours.",
    "Is it possible to pay by credit card?",
    "I would like to speak to the manager.",
    "Do you have a room for three nights in July?",
    "My bicycle has a flat tire.",
    "Do I have to make an appointment?",
    "I am calling about the apartment in the newspaper.",
    "Where can I park my car?",
    "What is the telephone number of your office?",
]
PROMPTS = 30
# Calls at the same time, each with a part of what is said. A call full of speech takes 4 % of a core.
CALLS_OF_A_VOICE, CALLS_OF_PEOPLE = 2, 6
SOUNDS_OF_A_CALL = 3
FEWEST_WORDS, MOST_WORDS = 6, 14
PAUSE_S = 0.8  # after which the next sentence is another one


def recordings():
    """The first of what a person recorded for telephones: (text, audio)."""
    fitting = [each for each in prompts() if FEWEST_WORDS <= len(words_of(each[0])) <= MOST_WORDS]
    return [(text, read_wav(path)) for text, path in fitting[:PROMPTS]]


async def heard(agent, room, utterances):
    """The finals of a call that says all this, one after the other."""
    script = [Wait(0.5)]
    for pcm in utterances:
        script += [Say(pcm), Wait(PAUSE_S)]
    report = await run_call(
        [*script, Wait(1.0)], url=call_url(agent.url, profile="deaf"), generation="free", room_id=room
    )
    assert report.of("error") == []
    return [message["text"] for message in report.of("transcription") if message["is_final"]]


async def error_rate(agent, room, spoken, count):
    """The word error rate over all that is spoken, (text, audio), in `count` calls at the same time."""
    parts = [spoken[n::count] for n in range(count)]
    calls = [heard(agent, f"{room}-{n}", [pcm for _, pcm in part]) for n, part in enumerate(parts)]
    finals = await asyncio.gather(*calls)
    errors = [
        word_errors(" ".join(text for text, _ in part), " ".join(texts))
        for part, texts in zip(parts, finals, strict=True)
    ]
    return sum(wrong for wrong, _ in errors) / sum(words for _, words in errors)


async def test_voices_over_a_telephone_are_understood(agent):
    """24 sentences by the embedded voice, three of flite and one of espeak, which is the hardest."""

    async def rate(voice):
        spoken = await asyncio.to_thread(lambda: [(text, say(text, voice)) for text in SENTENCES])
        return await error_rate(agent, f"hears-{voice}", spoken, CALLS_OF_A_VOICE)

    rates = dict(zip(VOICES, await asyncio.gather(*map(rate, VOICES)), strict=True))
    assert sum(rates.values()) / len(rates) <= 0.15, rates


async def test_people_are_understood(agent):
    spoken = recordings()
    assert len(spoken) == PROMPTS
    assert await error_rate(agent, "people", spoken, CALLS_OF_PEOPLE) <= 0.06


async def test_what_was_said_when_the_caller_hangs_up_in_mid_sentence_is_stored(agent):
    speech = say("I would like to speak to the manager about the bill that you sent me in July.")
    url = call_url(agent.url, profile="deaf")
    report = await run_call([Wait(0.5), Say(speech[: 3 * RATE * 2])], url=url, room_id="hangs up")
    shown = [message["text"] for message in report.of("transcription")]
    assert shown
    await agent.finished("hangs up")
    (turn,) = agent.turns("hangs up")
    assert words_of(turn["text"])[:6] == words_of("I would like to speak to")
    assert turn["end_ms"] > turn["start_ms"]


async def test_noise_and_a_low_voice_are_understood(agent):
    question = "Please tell me about your opening hours."
    speech = say(question, "awb")
    lines = {"noise": noisy(speech, 20), "quiet": gain(speech, -26), "loud": gain(speech, 12)}
    calls = [heard(agent, name, [pcm]) for name, pcm in lines.items()]
    for name, texts in zip(lines, await asyncio.gather(*calls), strict=True):
        assert word_error_rate(question, " ".join(texts)) <= 0.3, (name, texts)


async def test_sounds_that_are_no_speech_are_not_answered(agent):
    """Tones, music, noise and knocks: the call hears no words, makes no turn, and complains of nothing."""
    dice = np.random.default_rng(5)
    knocks = [dice.standard_normal(int(s * RATE)) * np.hanning(int(s * RATE)) * 0.3 for s in (0.1, 0.3, 0.6)]
    played = [*(samples for _, samples in sounds()), *knocks]
    pcm = [(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes() for samples in played]
    calls = {f"sounds-{n}": pcm[n : n + SOUNDS_OF_A_CALL] for n in range(0, len(pcm), SOUNDS_OF_A_CALL)}
    finals = await asyncio.gather(*(heard(agent, room, part) for room, part in calls.items()))
    for room, texts in zip(calls, finals, strict=True):
        assert texts == []
        await agent.finished(room)
        assert agent.turns(room) == []


async def test_speech_without_words_is_followed_by_silence_and_no_apology(agent):
    """What the voice activity detector takes for speech, and the recogniser for none, is nobody's fault."""
    samples = np.frombuffer(say(SENTENCES[3], "rms"), "<i2").astype(float)
    spectrum = np.fft.rfft(samples)
    spectrum[np.fft.rfftfreq(len(samples), 1 / RATE) > 400] = 0
    muffled = (np.fft.irfft(spectrum, len(samples)) * 2).clip(-32768, 32767).astype("<i2").tobytes()
    script = [WaitForAgent(0.5), Say(muffled), Wait(6.5), Say(say(SENTENCES[0])), WaitForAgent(0.5)]
    report = await run_call(script, url=agent.url, room_id="muffled")
    assert report.failure is None
    assert report.of("error") == []
    await agent.finished("muffled")
    said = [turn["text"] for turn in agent.turns("muffled")]
    assert "Sorry, something went wrong." not in said
    assert words_of(SENTENCES[0]) == words_of(agent.turns("muffled")[-2]["text"])
