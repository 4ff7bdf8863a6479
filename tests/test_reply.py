"""What the voice gets of a reply, and when."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from pipecat.frames.frames import (
    AggregatedTextFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
)

from calls.pipeline import reply as module
from calls.pipeline.reply import Reply, WrittenFrame
from calls.providers.frames import ReplyCutFrame
from tests.provider_harness import running

LONG = "The capital of France is a large and very beautiful city on the river Seine"


class Model:
    """A model that writes what the test says."""

    def __init__(self, line):
        self.line = line

    async def writes(self, *pieces):
        await self.line.send(*map(LLMTextFrame, pieces))

    async def ends(self, cut=False):
        end = LLMFullResponseEndFrame()
        await self.line.send(*([ReplyCutFrame("max_tokens")] if cut else []), end)
        await self.line.out.until(lambda: end in self.line.out.frames)

    async def given(self, count):
        """The first `count` pieces that the voice gets; waits for them."""
        await self.line.out.first(AggregatedTextFrame, count)
        return self.all

    @property
    def all(self):
        return [frame.text for frame in self.line.out.of(AggregatedTextFrame)]


@asynccontextmanager
async def writing():
    """A reply that has begun."""
    async with running(Reply("en")) as line:
        await line.send(LLMFullResponseStartFrame())
        yield Model(line)


@pytest.fixture
def impatient(monkeypatch):
    """Waits are short, and speech takes no time: what is unfinished is spoken at once."""
    monkeypatch.setattr(module, "SENTENCE_S", 0.01)
    monkeypatch.setattr(module, "UNFINISHED_S", 0.01)
    monkeypatch.setattr(module, "SPOKEN_S", 0.0)


@pytest.fixture
def patient(monkeypatch):
    """Nothing is spoken before its sentence is over."""
    monkeypatch.setattr(module, "SENTENCE_S", 1000.0)
    monkeypatch.setattr(module, "UNFINISHED_S", 1000.0)


async def test_a_reply_comes_in_sentences(patient):
    async with writing() as model:
        await model.writes("It", " costs $29.", "50", " today. And", " that is", " all")
        assert await model.given(1) == ["It costs $29.50 today."]
        await model.ends()
        assert model.all == ["It costs $29.50 today.", "And that is all"]
        assert [frame.text for frame in model.line.out.of(WrittenFrame)] == model.all
        assert not model.line.out.of(LLMTextFrame)


async def test_a_sentence_that_seems_over_is_spoken_though_no_more_comes(impatient, monkeypatch):
    monkeypatch.setattr(module, "UNFINISHED_S", 1000.0)
    async with writing() as model:
        await model.writes("It is Paris. ")
        assert await model.given(1) == ["It is Paris."]
        await model.writes("It lies")
        await model.ends()
        assert model.all == ["It is Paris.", "It lies"]


@pytest.mark.parametrize(
    ("written", "spoken", "rest"),
    [
        (f"{LONG}", "The capital of France is a large and very beautiful city on the river", "Seine"),
        (f"{LONG}, ", f"{LONG},", ""),
        (f"{LONG}, as every", f"{LONG},", "as every"),
        ("One two three four five ", "One two three four five", ""),
    ],
)
async def test_an_unfinished_sentence_is_spoken_up_to_a_clause_or_a_whole_word(
    impatient, written, spoken, rest
):
    async with writing() as model:
        await model.writes(written)
        if not rest and not written.rstrip().endswith(","):
            await model.writes("five")
            rest = "five"
        assert (await model.given(1))[0] == spoken
        await model.writes("x is.")
        await model.ends()
        assert " ".join(model.all).removeprefix(f"{spoken} ") == f"{rest}x is."


async def test_two_words_are_too_few_to_begin_with(impatient):
    async with writing() as model:
        await model.writes("The capital")
        await asyncio.sleep(0.05)
        await model.writes(" of France is")
        assert await model.given(1) == ["The capital of France"]


async def test_while_the_voice_has_something_to_say_a_sentence_may_take_its_time(impatient, monkeypatch):
    monkeypatch.setattr(module, "SPOKEN_S", 1000.0)
    async with writing() as model:
        await model.writes("It is Paris. ", LONG)
        assert await model.given(1) == ["It is Paris."]
        await model.writes(" in the north.")
        await model.ends()
        assert model.all == ["It is Paris.", f"{LONG} in the north."]


async def test_words_keep_their_spaces_however_they_come(impatient):
    """Each piece is looked at, and spoken as far as it goes, before the next one comes."""
    text = f"{LONG} in the north of the country and everybody knows it"
    async with writing() as model:
        for number in range(0, len(text), 7):
            await model.writes(text[number : number + 7])
            await asyncio.sleep(0.02)
        await model.ends()
        assert len(model.all) > 2
        assert " ".join(model.all) == text


async def test_halves_of_characters_become_whole_ones_or_none(patient):
    async with writing() as model:
        await model.writes("Yes \ud83d", "\ude00! No \ud83d", " indeed. \ude00\x00")
        await model.ends()
        assert model.all == ["Yes 😀!", "No  indeed."]


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        (["It is Paris. It lies on the"], ["It is Paris."]),
        (["It is Paris. It lies there."], ["It is Paris.", "It lies there."]),
        (["It lies on the Seine, which is a"], ["It lies on the Seine,"]),
        (["It lies on the"], ["It lies on the"]),
    ],
)
async def test_a_reply_that_was_cut_ends_with_a_sentence(patient, written, spoken):
    async with writing() as model:
        await model.writes(*written)
        await model.ends(cut=True)
        assert model.all == spoken
        await model.line.send(LLMFullResponseStartFrame())
        await model.writes("This one is whole. And so on")
        await model.ends()
        assert model.all == [*spoken, "This one is whole.", "And so on"]


async def test_an_interruption_forgets_what_was_not_spoken(patient):
    async with writing() as model:
        await model.writes("It is Paris. It lies")
        await model.given(1)
        await model.line.send(InterruptionFrame())
        await model.line.out.first(InterruptionFrame)
        await model.line.send(LLMFullResponseStartFrame())
        await model.writes("Yes.")
        await model.ends()
        assert model.all == ["It is Paris.", "Yes."]
