"""Frames in, conversation out: turns and messages, also when frames come in an order nobody wants."""

import time
from types import SimpleNamespace

import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    ErrorFrame,
    InterimTranscriptionFrame,
    InterruptionFrame,
    LLMContextAssistantTurnFrame,
    LLMContextUserTurnFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    MetricsFrame,
    TranscriptionFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.metrics.metrics import TTFBMetricsData
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.utils.text.base_text_aggregator import TextType

from calls import events
from calls.pipeline import observer as module
from calls.pipeline import turns
from calls.pipeline.hearing import LateTranscriptionFrame
from calls.pipeline.observer import ConversationObserver
from calls.pipeline.reply import WrittenFrame
from calls.pipeline.sentences import sentences_of
from calls.pipeline.taps import Services
from calls.providers.frames import PromptCutFrame, ReplyCutFrame, SpeechTranscribedFrame

STARTED = 1_000.0
GREETING = "Hello, how can I help you?"


class Told:
    """Takes events and keeps them."""

    def __init__(self):
        self.log = []
        self.turns = {}

    def __call__(self, event):
        self.log.append(event)
        if isinstance(event, events.Turn):
            self.turns[event.index] = event

    def of(self, kind):
        return [event for event in self.log if isinstance(event, kind)]

    def texts(self, kind):
        return [event.text for event in self.of(kind)]

    @property
    def interruptions(self):
        return [event.spoken for event in self.of(events.Interrupted)]

    @property
    def failures(self):
        return [(event.part, event.message) for event in self.of(events.Failed) if event.caller_waits]

    @property
    def faltered(self):
        return [(event.part, event.message) for event in self.of(events.Failed) if not event.caller_waits]

    @property
    def due(self):
        return [event.part for event in self.of(events.Awaiting)]

    @property
    def said(self):
        """The turns as they are stored in the end."""
        return [(turn.speaker, turn.text, turn.interrupted) for _, turn in sorted(self.turns.items())]


def latencies(turn):
    """What was measured of a turn, by field."""
    names = ("end_of_turn_ms", "stt_ms", "llm_ms", "tts_ms", "total_ms")
    return {name: getattr(turn, name) for name in names if getattr(turn, name) is not None}


class Conversation:
    """An observer of processors that push what the test says, at the times it says."""

    def __init__(self, clock):
        self.clock = clock
        self.told = Told()
        names = ("stt", "words", "caller", "llm", "reply", "tts", "output", "agent")
        self.services = Services(**{name: FrameProcessor(name=name) for name in names})
        self.observer = ConversationObserver(self.services, self.told, started=STARTED, language="en")

    async def push(self, processor, *frames):
        """Let a processor push frames, and the observer follow them."""
        for frame in frames:
            await getattr(self.services, processor)._call_event_handler("on_before_push_frame", frame)
        await self.follow()

    async def fail(self, processor, error):
        service = getattr(self.services, processor)
        await service._call_event_handler("on_error", ErrorFrame(error))
        await self.follow()

    async def follow(self):
        while not self.observer._frames.empty():
            self.observer._follow(self.observer._frames.get_nowait())

    # --- What happens in a call, in the frames that Pipecat makes of it -----------------------------------

    async def speech(self, seconds=2.0, *, transcript=None):
        """The caller speaks from now on for so long; then comes the transcript."""
        await self.push(
            "words", VADUserStartedSpeakingFrame(start_secs=0.2, timestamp=self.clock.time() + 0.2)
        )
        self.clock.now += seconds
        await self.push(
            "words", VADUserStoppedSpeakingFrame(stop_secs=0.2, timestamp=self.clock.time() + 0.2)
        )
        self.clock.now += 0.3
        if transcript:
            await self.push("words", TranscriptionFrame(transcript, "caller", "now", "en"))

    async def question(self, text, seconds=2.0):
        """The caller speaks and is done."""
        await self.speech(seconds, transcript=text)
        await self.push("caller", LLMContextUserTurnFrame(text, "now"))

    async def reply(self, *pieces):
        """The model writes, and the voice gets it in pieces."""
        await self.push("reply", LLMFullResponseStartFrame())
        for piece in pieces:
            await self.push("llm", LLMTextFrame(piece))
            await self.push("reply", WrittenFrame(piece))
        await self.push("reply", LLMFullResponseEndFrame())

    async def announce(self, text, *, voice=True):
        """Text-to-speech takes up a text, of which voice comes; the text's id."""
        frame = AggregatedTextFrame(text, TextType.SENTENCE)
        await self.push("tts", frame, TTSStartedFrame())
        if voice:
            await self.push("tts", TTSStoppedFrame())
        return frame.id

    async def begin(self):
        await self.push("output", BotStartedSpeakingFrame())

    async def words(self, text, segment=None, **fields):
        for word in text.split():
            frame = TTSTextFrame(word, TextType.WORD, segment_id=segment)
            for name, value in fields.items():
                setattr(frame, name, value)
            self.clock.now += 0.2
            await self.push("output", frame)

    async def stop(self):
        await self.push("output", BotStoppedSpeakingFrame())

    async def aggregated(self, text):
        """The agent's turn enters the model's context."""
        await self.push("agent", LLMContextAssistantTurnFrame(text, "now"))

    async def interrupt(self):
        await self.push("caller", InterruptionFrame())
        await self.stop()

    async def says(self, text):
        """The agent speaks a text to its end."""
        segment = await self.announce(text)
        await self.begin()
        await self.words(text, segment)
        await self.aggregated(text)
        await self.stop()


@pytest.fixture
def call(monkeypatch):
    clock = SimpleNamespace(now=STARTED, wall_is_ahead=0.0)
    clock.time = lambda: clock.now + clock.wall_is_ahead
    clock.monotonic = lambda: clock.now
    clock.time_ns = time.time_ns
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(turns, "time", clock)
    return Conversation(clock)


# --- The usual order --------------------------------------------------------------------------------------


async def test_a_conversation(call):
    await call.says(GREETING)
    call.clock.now = STARTED + 10
    await call.push("words", InterimTranscriptionFrame("two", "caller", "now", "en"))
    await call.question("two large pizzas")
    call.clock.now = STARTED + 13
    await call.reply("They are on their way.", "Anything else?")
    segment = await call.announce("They are on their way. Anything else?")
    await call.begin()
    await call.words("They are on their way. Anything else?", segment)
    await call.aggregated("They are on their way. Anything else?")
    await call.stop()

    assert call.told.said == [
        ("agent", GREETING, False),
        ("caller", "two large pizzas", False),
        ("agent", "They are on their way. Anything else?", False),
    ]
    greeting, question, answer = call.told.turns.values()
    assert (greeting.start_ms, greeting.end_ms) == (0, 1200)
    assert (question.start_ms, question.end_ms, question.language) == (10_000, 12_000, "en")
    assert (answer.start_ms, answer.end_ms) == (13_000, 14_400)
    assert latencies(answer) == {"end_of_turn_ms": 300, "total_ms": 1000}
    assert latencies(greeting) == {}
    assert all(turn.final for turn in call.told.turns.values())
    assert [(m.text, m.is_final, m.language) for m in call.told.of(events.Heard)] == [
        ("two", False, "en"),
        ("two large pizzas", True, "en"),
    ]
    assert [(m.text, m.is_complete) for m in call.told.of(events.Wrote)] == [
        ("They are on their way.", False),
        ("Anything else?", False),
        ("They are on their way. Anything else?", True),
    ]
    sentences = [GREETING, "They are on their way.", "Anything else?"]
    assert call.told.texts(events.Saying) == call.told.texts(events.Said) == sentences
    assert call.told.failures == call.told.interruptions == []
    assert call.told.due == [None, "stt", None, "llm", "llm", "tts", "tts", None]


async def test_what_was_left_without_an_answer_on_purpose_makes_no_later_one_late(call):
    call.clock.now = STARTED + 10
    await call.question("hello?")
    call.observer.forget_wait()
    call.clock.now = STARTED + 60
    await call.says(GREETING)
    assert latencies(list(call.told.turns.values())[-1]) == {}


async def test_a_turn_in_several_stretches(call):
    """Each transcript is stored at once, all in one turn."""
    await call.speech(1.5, transcript="I would like")
    assert call.told.said == [("caller", "I would like", False)]
    call.clock.now += 1
    await call.speech(1.5, transcript="two pizzas")
    assert call.told.said == [("caller", "I would like two pizzas", False)]
    await call.push("caller", LLMContextUserTurnFrame("I would like two pizzas", "now"))
    assert call.told.said == [("caller", "I would like two pizzas", False)]
    assert call.told.turns[0].start_ms == 0
    assert call.told.turns[0].end_ms == round(1000 * (1.5 + 0.3 + 1 + 1.5))
    call.clock.now = STARTED + 9
    await call.question("and a salad")
    assert call.told.turns[1].start_ms == 9000


async def test_words_that_came_as_their_turn_ended_stay_said(call):
    """The model hears them with the next turn; the caller may hang up before."""
    await call.speech(1.5, transcript="I would like")
    await call.push("words", TranscriptionFrame("two pizzas", "caller", "now", "en"))
    await call.push("caller", LLMContextUserTurnFrame("I would like", "now"))
    assert call.told.said == [("caller", "I would like two pizzas", False)]


async def test_the_agents_text_is_final_once_it_is_spoken(call):
    await call.begin()
    await call.words("Hello, how")
    assert not call.told.turns[0].final
    await call.push("caller", InterruptionFrame())
    assert call.told.turns[0].final


@pytest.mark.parametrize("seconds", [-3600, 3600])
async def test_setting_the_wall_clock_moves_no_offset(call, seconds):
    await call.says(GREETING)
    before = call.clock.now
    call.clock.wall_is_ahead = seconds
    await call.question("two large pizzas")
    turn = call.told.turns[1]
    assert (turn.start_ms, turn.end_ms) == (
        round((before - STARTED) * 1000),
        round((before + 2 - STARTED) * 1000),
    )


async def test_what_was_measured_belongs_to_the_turn_it_made_wait(call):
    await call.question("hello")
    for service, seconds in (("stt", 0.2), ("llm", 0.15), ("tts", 0.05)):
        await call.push(service, MetricsFrame([TTFBMetricsData(processor=service, value=seconds)]))
    # Passing by, told already; and a figure that says nothing.
    await call.push("tts", MetricsFrame([TTFBMetricsData(processor="llm", value=0.15)]))
    await call.push("llm", MetricsFrame([TTFBMetricsData(processor="llm", value=0)]))
    await call.reply("Hello!")
    await call.says("Hello!")
    latency = {"end_of_turn": 300, "stt": 200, "llm": 150, "tts": 50, "total": 300}
    assert latencies(call.told.turns[1]) == {f"{what}_ms": ms for what, ms in latency.items()}
    assert {event.what: event.ms for event in call.told.of(events.Measured)} == latency
    assert len(call.told.of(events.Measured)) == 5


async def test_of_a_frame_that_goes_both_ways_one_counts(call):
    down, up = TranscriptionFrame("hello", "caller", "now"), TranscriptionFrame("hello", "caller", "now")
    down.broadcast_sibling_id, up.broadcast_sibling_id = up.id, down.id
    await call.push("words", down, up)
    assert call.told.said == [("caller", "hello", False)]


# --- Interruptions ----------------------------------------------------------------------------------------


async def test_interrupted_in_the_middle(call):
    segment = await call.announce("We are open from nine. Come in the morning.")
    await call.reply("We are open from nine. Come in the morning.")
    await call.begin()
    await call.words("We are open from nine. Come", segment)
    await call.interrupt()
    await call.aggregated("We are open from nine. Come")
    assert call.told.said == [("agent", "We are open from nine. Come", True)]
    assert call.told.turns[0].end_ms == 1200
    assert call.told.interruptions == ["We are open from nine. Come"]
    assert call.told.texts(events.Saying) == ["We are open from nine.", "Come in the morning."]
    assert call.told.texts(events.Said) == ["We are open from nine.", "Come"]
    await call.says("Yes?")
    assert call.told.said[1:] == [("agent", "Yes?", False)]
    assert call.told.failures == []


@pytest.mark.parametrize("so_far", ["We are", "We are open from nine.", "We are open from nine. Come"])
async def test_words_on_their_way_when_the_caller_interrupts_begin_no_sentence(call, so_far):
    """The next words of the same text, and the first of the text after it, come just behind."""
    text = "We are open from nine. Come in the morning. Today is a holiday."
    segment = await call.announce(text)
    after = await call.announce("Is there anything else?")
    await call.begin()
    await call.words(so_far, segment)
    told = call.told.texts(events.Saying)
    await call.push("caller", InterruptionFrame())
    await call.words("open from", segment)
    await call.words("Is there", after)
    await call.stop()
    await call.aggregated(so_far)
    assert call.told.texts(events.Saying) == told
    assert call.told.said == [("agent", so_far, True)]
    assert " ".join(call.told.texts(events.Said)) == so_far
    await call.says("Yes?")
    assert call.told.texts(events.Saying) == [*told, "Yes?"]
    assert call.told.said[1:] == [("agent", "Yes?", False)]


async def test_what_may_not_be_interrupted_goes_on_sentence_by_sentence(call):
    farewell = AggregatedTextFrame("Thank you. Goodbye now.", TextType.SENTENCE)
    farewell.interruptible = False
    await call.push("tts", farewell, TTSStartedFrame())
    await call.begin()
    await call.push("caller", InterruptionFrame())
    await call.words("Thank you.", farewell.id, interruptible=False)
    await call.push("caller", InterruptionFrame())
    await call.words("Goodbye now.", farewell.id, interruptible=False)
    await call.stop()
    assert call.told.texts(events.Saying) == call.told.texts(events.Said) == ["Thank you.", "Goodbye now."]


async def test_interrupted_before_any_word(call):
    """Nothing was said: there is no such turn, and the next one does not inherit anything of it."""
    await call.announce("We are open from nine.")
    await call.begin()
    await call.interrupt()
    assert call.told.said == []
    assert call.told.interruptions == [""]
    call.clock.now += 5
    await call.says("Yes?")
    assert call.told.said == [("agent", "Yes?", False)]
    assert call.told.turns[0].start_ms == 5000


async def test_interrupted_while_the_model_writes(call):
    await call.push("reply", LLMFullResponseStartFrame(), WrittenFrame("We are open."))
    await call.interrupt()
    await call.push("reply", LLMFullResponseEndFrame())
    assert [(m.text, m.is_complete) for m in call.told.of(events.Wrote)] == [
        ("We are open.", False),
        ("We are open.", True),
    ]
    assert call.told.interruptions == call.told.failures == []


async def test_an_interrupted_greeting(call):
    segment = await call.announce(GREETING)
    await call.begin()
    await call.words("Hello, how", segment)
    await call.push("words", VADUserStartedSpeakingFrame(start_secs=0.2, timestamp=call.clock.now))
    await call.interrupt()
    await call.aggregated("Hello, how")
    await call.question("two pizzas")
    await call.says("Two pizzas.")
    assert call.told.said == [
        ("agent", "Hello, how", True),
        ("caller", "two pizzas", False),
        ("agent", "Two pizzas.", False),
    ]


async def test_an_interruption_while_nobody_speaks_is_none(call):
    await call.says(GREETING)
    await call.push("caller", InterruptionFrame())
    assert call.told.said == [("agent", GREETING, False)]
    assert call.told.interruptions == []


# --- Orders nobody wants ----------------------------------------------------------------------------------


async def test_the_turn_enters_the_context_after_the_voice_has_stopped(call):
    segment = await call.announce(GREETING)
    await call.begin()
    await call.words(GREETING, segment)
    await call.stop()
    ended = call.told.turns[0].end_ms
    call.clock.now += 1
    await call.aggregated(GREETING)
    assert call.told.said == [("agent", GREETING, False)]
    assert call.told.turns[0].end_ms == ended
    await call.says("Hello?")
    assert len(call.told.said) == 2


@pytest.mark.parametrize("speaking", [True, False])
async def test_words_said_after_their_reply_was_over_are_stored(call, speaking):
    """The voice failed and another stands in; or the farewell follows the reply without a pause."""
    await call.question("What is new?")
    first, second = await call.announce("It is May."), await call.announce("All is well.")
    await call.begin()
    await call.words("It is May.", first)
    if not speaking:
        await call.stop()
    await call.aggregated("It is May.")
    if not speaking:
        await call.begin()
    await call.words("All is well.", second)
    await call.stop()
    await call.question("Good.")
    await call.says("Goodbye.")
    assert call.told.texts(events.Said) == ["It is May.", "All is well.", "Goodbye."]
    assert [text for speaker, text, _ in call.told.said if speaker == "agent"] == call.told.texts(events.Said)
    assert [speaker for speaker, _, _ in call.told.said] == ["caller", "agent", "agent", "caller", "agent"]
    assert all(turn.end_ms is not None for turn in call.told.turns.values())


async def test_words_of_a_language_without_spaces(call):
    segment = await call.announce("こんにちは。")
    await call.begin()
    await call.words("こん にちは。", segment, includes_inter_frame_spaces=True)
    await call.aggregated("こんにちは。")
    await call.stop()
    assert call.told.said == [("agent", "こんにちは。", False)]
    assert call.told.texts(events.Said) == ["こんにちは。"]


async def test_a_word_before_its_voice(call):
    await call.says(GREETING)
    segment = await call.announce("Hello there.")
    await call.words("Hello", segment)
    assert call.told.said[1:] == [("agent", "Hello", False)]
    await call.begin()
    await call.words("there.", segment)
    assert call.told.said[1:] == [("agent", "Hello there.", False)]
    assert call.told.texts(events.Saying) == [GREETING, "Hello there."]


async def test_a_reply_without_a_voice(call):
    """A service that claims to have spoken: what it claims is one turn, and over."""
    segment = await call.announce("Hello there.")
    await call.words("Hello there.", segment)
    await call.aggregated("Hello there.")
    assert call.told.said == [("agent", "Hello there.", False)]
    assert call.told.turns[0].end_ms is not None
    await call.says("Hello again.")
    assert call.told.said == [("agent", "Hello there.", False), ("agent", "Hello again.", False)]


@pytest.mark.parametrize("text", [GREETING, "Hello! How can I help you? We are open."])
async def test_a_voice_without_word_times(call, text):
    """Its text comes whole, after the voice."""
    await call.announce(text)
    await call.begin()
    call.clock.now += 2
    await call.push("output", TTSTextFrame(text, TextType.SENTENCE))
    await call.stop()
    assert call.told.said == [("agent", text, False)]
    assert call.told.turns[0].start_ms == 0
    assert call.told.texts(events.Saying) == call.told.texts(events.Said) == [text]


async def test_what_is_not_part_of_the_conversation_is_not_stored(call):
    segment = await call.announce("One moment.")
    await call.begin()
    await call.words("One moment.", segment, append_to_context=False)
    await call.stop()
    assert call.told.said == []
    assert call.told.texts(events.Said) == ["One moment."]


async def test_the_call_ends_while_the_agent_speaks(call):
    segment = await call.announce(GREETING)
    await call.begin()
    await call.words("Hello, how", segment)
    call.observer.drain()
    assert call.told.said == [("agent", "Hello, how", False)]
    assert call.told.turns[0].end_ms == 400
    assert call.told.texts(events.Said) == ["Hello, how"]
    assert call.told.failures == []


async def test_the_caller_hangs_up_in_the_middle_of_a_sentence(call):
    """What was shown of it is stored, with what was final before."""
    await call.push("words", VADUserStartedSpeakingFrame(start_secs=0.2, timestamp=call.clock.now))
    await call.push("words", TranscriptionFrame("My number is", "caller", "now", "en"))
    await call.push("words", InterimTranscriptionFrame("five five", "caller", "now", "en"))
    call.observer.drain()
    assert call.told.said == [("caller", "My number is five five", False)]
    assert call.told.turns[0].end_ms is not None


# --- Failures ---------------------------------------------------------------------------------------------


async def test_an_error_names_its_service(call):
    for processor in ("stt", "llm", "tts", "output"):
        await call.fail(processor, "no answer")
    assert [kind for kind, _ in call.told.failures] == ["stt", "llm", "tts", "pipeline"]


async def test_a_voice_that_breaks_off(call):
    segment = await call.announce(GREETING, voice=False)
    await call.begin()
    await call.words("Hello, how", segment)
    await call.stop()
    assert call.told.failures == [("tts", "the voice broke off")]
    # The embedded voice, which speaks instead, does not break off as well.
    await call.begin()
    await call.stop()
    assert len(call.told.failures) == 1


async def test_a_pause_of_the_voice_while_the_model_writes_is_none(call):
    await call.push("reply", LLMFullResponseStartFrame(), WrittenFrame("One moment."))
    await call.announce("One moment.", voice=False)
    await call.begin()
    await call.stop()
    assert call.told.failures == []
    assert call.told.due[-1] == "llm"  # the rest is not waited for without end


async def test_a_slow_model_is_waited_for_word_by_word_until_the_voice_has_its_text(call):
    await call.push("reply", LLMFullResponseStartFrame())
    await call.push("llm", LLMTextFrame("The"), LLMTextFrame(" capital"))
    await call.push("reply", WrittenFrame("The capital of France"))
    await call.push("llm", LLMTextFrame(" is"))
    assert call.told.due == ["llm", "llm", "tts"]
    await call.begin()
    await call.push("llm", LLMTextFrame(" Paris."))
    await call.push("reply", WrittenFrame("is Paris."))
    assert call.told.due == ["llm", "llm", "tts", None]


async def test_what_was_left_out_is_told(call):
    await call.push("llm", ReplyCutFrame("the reply was cut"), PromptCutFrame("the prompt was cut"))
    told = [(event.part, event.message) for event in call.told.of(events.Shortened)]
    assert told == [("llm", "the reply was cut"), ("llm", "the prompt was cut")]
    assert call.told.failures == []


async def test_a_voice_that_failed_is_told_of_once(call):
    await call.announce(GREETING, voice=False)
    await call.fail("tts", "no audio")
    await call.begin()  # the embedded voice
    await call.stop()
    assert call.told.failures == [("tts", "no audio")]


async def test_voices_one_after_the_other(call):
    """Both are ready before the first is heard."""
    first, second = await call.announce("One."), await call.announce("Two.")
    await call.begin()
    await call.words("One.", first)
    await call.stop()
    await call.begin()
    await call.words("Two.", second)
    await call.stop()
    assert call.told.failures == []
    assert call.told.texts(events.Said) == ["One.", "Two."]


async def test_a_model_that_writes_nothing(call):
    await call.reply()
    assert call.told.failures == [("llm", "the language model wrote nothing")]


async def test_a_model_that_failed_is_told_of_once(call):
    await call.fail("llm", "500")
    await call.reply()
    assert call.told.failures == [("llm", "500")]


async def test_short_noise_is_not_waited_for(call):
    """A cough has no words, so no transcript is due."""
    await call.speech(0.5)
    assert call.told.due == []
    await call.speech(1.5)
    assert call.told.due == ["stt"]


async def test_words_that_count_as_said_for_want_of_a_final_are_told_with_the_reason(call):
    await call.push("words", LateTranscriptionFrame("two pizzas", "caller", "now", "en"))
    assert call.told.texts(events.Heard) == ["two pizzas"]
    assert [kind for kind, _ in call.told.faltered] == ["stt"]
    assert call.told.failures == []


async def test_speech_without_words_is_not_waited_for_once_that_is_known(call):
    await call.speech(1.5)
    await call.push("words", SpeechTranscribedFrame())
    assert call.told.due == ["stt", None]
    assert call.told.said == []


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two? Three!", ["One.", "Two?", "Three!"]),
        ("It costs 3.50 euros. Really.", ["It costs 3.50 euros.", "Really."]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences(text, sentences):
    assert sentences_of(text) == sentences
