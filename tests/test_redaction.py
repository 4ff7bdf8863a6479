"""No secret gets into a log, an event or a message."""

import io
import logging

import pytest
from django.conf import settings

from calls import redaction
from calls.providers.accounts import Account
from calls.redaction import RedactingFormatter, redacted


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setattr(redaction, "_known", set())


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("GET https://user:pa55@host/v1 failed", "GET https://…@host/v1 failed"),
        ("redis://:pa55@host:6379/0", "redis://…@host:6379/0"),
        ("wss://host/tts?api_key=abc123&x=1", "wss://host/tts?api_key=…&x=1"),
        ("https://host/?key=abc&token=def", "https://host/?key=…&token=…"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer …"),
        ("{'Authorization': 'Bearer abc.def'}", "{'Authorization': 'Bearer …'}"),
        ('{"x-api-key": "abc123"}', '{"x-api-key": "…"}'),
        ("> X-API-Key: car_123", "> X-API-Key: …"),
        ("Incorrect API key provided: sk-wrong*****abcd. See", "Incorrect API key provided: sk-…. See"),
        ("sk_car_made_up was refused", "sk_… was refused"),
    ],
)
def test_what_looks_like_a_secret_is_hidden(text, left):
    assert redacted(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "https://host:443/v1/chat: HTTP 401",
        "unexpected token: '<' at line 3",
        "duplicate key value violates unique constraint",
        "write to anna@example.org",
        "a task of the sky-blue monkey",
    ],
)
def test_what_is_none_stays(text):
    assert redacted(text) == text


def test_a_key_that_was_read_is_hidden_whatever_it_looks_like():
    assert redacted("sent hunter2hunter2 along") == "sent hunter2hunter2 along"
    Account("hunter2hunter2")
    Account("")
    assert redacted("sent hunter2hunter2 along") == "sent … along"


def test_the_servers_log_hides_them_in_tracebacks_too():
    line = settings.LOGGING["formatters"]["line"]
    assert line["()"] == f"{RedactingFormatter.__module__}.{RedactingFormatter.__name__}"
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(RedactingFormatter(line["format"]))
    logger = logging.Logger("a logger of the test")
    logger.addHandler(handler)
    try:
        raise ValueError("https://me:pa55word@host/?key=abcdef")
    except ValueError:
        logger.exception("with %s", "Bearer abcdef")
    assert "ValueError" in stream.getvalue()
    assert not {"pa55word", "abcdef"} & set(stream.getvalue().replace("=", " ").split())
    assert "pa55word" not in stream.getvalue()
    assert "abcdef" not in stream.getvalue()
