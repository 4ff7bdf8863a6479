"""The recogniser itself: its vocabulary, drafts, bounds, and threads that share it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from calls.providers.local.moonshine import Moonshine, read_vocabulary, tiny_folder
from calls.simulator.line import telephone
from calls.simulator.voices import speak

QUESTION = "What is the capital of France?"
HOURS = "Please tell me about your opening hours."


@pytest.fixture(scope="module")
def model():
    return Moonshine(tiny_folder())


def said(text):
    return bytes(9600) + telephone(speak(text)) + bytes(6400)


def test_a_vocabulary_has_lengths_of_one_and_two_bytes(tmp_path):
    path = tmp_path / "tokenizer.bin"
    long = bytes(range(33, 233))
    path.write_bytes(b"\x02ab" + b"\x00" + bytes([128 + 200 % 128, 200 // 128]) + long + b"\x01c")
    assert read_vocabulary(path) == [b"ab", b"", long, b"c"]


def test_a_folder_without_weights_says_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.bin"):
        Moonshine(tmp_path)


def test_a_question_is_written_with_case_and_punctuation(model):
    heard = model.transcribe(said(QUESTION))
    assert heard.text == QUESTION
    assert heard.ended
    assert heard.confidence > -0.3


@pytest.mark.parametrize("draft_of", [QUESTION, HOURS])
def test_a_draft_right_or_wrong_changes_no_words(model, draft_of):
    draft = model.transcribe(said(draft_of)).tokens
    assert model.transcribe(said(QUESTION), draft).text == QUESTION


def test_a_draft_spares_passes_of_the_decoder(model):
    def passes(draft):
        asked = []
        model.transcribe(said(QUESTION), draft, lambda: asked.append(1))
        return len(asked)

    draft = model.transcribe(said(QUESTION)).tokens
    assert passes(draft) == 1
    assert passes(draft[:-2]) == 3
    assert passes(()) == len(draft) + 1


def test_it_is_given_up_between_two_tokens(model):
    answers = iter([False, False, True])
    assert model.transcribe(said(QUESTION), (), lambda: next(answers)) is None


@pytest.mark.parametrize("size", [0, 2, 640, 16000])
def test_sound_of_any_length_is_taken(model, size):
    assert model.transcribe(bytes(size)) is not None


def test_half_a_minute_is_transcribed_to_its_end(model):
    heard = model.transcribe(b"".join(said(text) for text in [HOURS] * 8)[: 30 * 32000])
    assert heard.text.lower().count("opening hours") >= 6


def test_threads_share_the_model(model):
    texts = [QUESTION, HOURS] * 8
    with ThreadPoolExecutor(4) as threads:
        heard = list(threads.map(lambda text: model.transcribe(said(text)).text, texts))
    assert heard == texts
