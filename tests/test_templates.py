"""The texts of a profile as templates: what is put in, what is refused, and for how long."""

import pytest

from calls.models import PromptProfile
from calls.profiles.templates import (
    MOST_CHARS,
    MOST_TAGS,
    VALUE_CHARS,
    problems,
    problems_of,
    render,
    samples_for,
    values_of,
)
from tests.conftest import STARTED_AT

TOLD = {
    "caller": "+49 30\n1234", "callee": None, "profile": "Shop", "language": "de-AT", "now": STARTED_AT,
    "metadata": {"name": "Ann", "order": {"number": 7, "paid": True}, "list": [1], "none": None},
}  # fmt: skip


@pytest.fixture
def values():
    return values_of(**TOLD)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("You call from {{ caller }}.", "You call from +49 30 1234."),  # in one line
        ("{{callee|default:\"us\"}}, {{ caller|default:'x' }}", "us, +49 30 1234"),
        ("{{ metadata.nick|default:metadata.name }} {{ metadata.order.number }}", "Ann 7"),
        ("paid: {{ metadata.order.paid }}", "paid: yes"),
        ("{{ now }} at {{ profile }}", "Mittwoch, 4 März 2026, 10:00 at Shop"),
        ('{"json": {"a": 1}} stays', '{"json": {"a": 1}} stays'),
        ("<b>&amp;</b> {{ profile }}", "<b>&amp;</b> Shop"),
    ],
)
def test_what_is_put_in(values, text, said):
    assert render(text, values) == said
    assert problems(text) == []


@pytest.mark.parametrize(
    ("text", "said", "why"),
    [
        ("a {{ customer }} b", "a  b", "customer }} is not known"),
        ("a{{ caller|default:customer }}b", "a+49 30 1234b", "customer }} is not known"),
        ("{{ metadata }}{{ metadata.list }}{{ metadata.none }}", "", "metadata }} is not known"),
        ("{{ caller.upper }}{{ now.year }}", "", "caller.upper }} is not known"),
        ("{{ caller.__class__ }}", "", "underscores"),
        ("{% if caller %}a{% endif %}", "a", "'if'"),
        ("{% load calls %}", "", "'load'"),
        ("{% include 'base.html' %}{% debug %}", "", "'include'"),
        ("{{ caller|upper }}", "", "'upper'"),
        ("{{ caller and callee }}", "", "remainder"),
        ("Hello {{ caller }", None, "not closed"),
    ],
)
def test_what_is_refused_is_spoken_as_nothing_meanwhile(values, text, said, why):
    problem, *_ = problems(text)
    assert why in problem
    if said is not None:
        assert render(text, values) == said


def test_only_the_announcement_knows_the_destination():
    texts = dict.fromkeys(("greeting", "transfer_announcement"), "To {{ destination }}.")
    assert list(problems_of(texts)) == ["greeting"]
    assert render(texts["transfer_announcement"], {"destination": "sales"}) == "To sales."


def test_what_profiles_begin_with_has_no_problem():
    assert problems_of(PromptProfile().configuration()) == {}


def test_what_a_caller_sends_is_not_read_as_a_template():
    told = values_of(**TOLD | {"caller": "{{ metadata.secret }}", "metadata": {"secret": "s"}})
    assert render("{{ caller }}", told) == "{{ metadata.secret }}"


def test_a_text_stays_within_its_bounds():
    told = values_of(**TOLD | {"caller": "9" * 9999, "metadata": {str(n): n for n in range(9999)}})
    assert len(told["caller"]) == VALUE_CHARS
    assert len(told) < 200
    assert len(render("{{ caller }}" * MOST_TAGS + "x" * 5000, told)) == MOST_CHARS
    for many in ("{{" * 9999, "{%" * 9999, "{{ caller }}" * (MOST_TAGS + 1)):
        (problem,) = problems(many)
        assert f"more than {MOST_TAGS}" in problem
    (problem,) = problems("{{ caller }}" + "x" * MOST_CHARS)
    assert "20,012 characters" in problem


def test_a_preview_has_a_value_for_every_name():
    texts = {"greeting": '{{ metadata.name }} {{ caller|default:"x" }} {{ destination }}', "farewell": "{{"}
    samples = samples_for(texts, "en")
    assert render(texts["greeting"], samples) == "‹name› +49 30 1234567 our sales desk"
