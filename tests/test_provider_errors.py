"""What went wrong at a provider, in words."""

import asyncio
import socket
import ssl

import httpx
import openai
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from calls.providers import clients
from calls.providers.errors import MOST_CHARS, explained
from tests.cloud import cartesia
from tests.cloud.openai import KEY, ChatCompletions


def closed_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


async def failure_of_a_request(url):
    """What OpenAI's client raises before, or in the middle of, an answer."""
    client = openai.AsyncOpenAI(
        api_key=KEY, base_url=url, max_retries=0, timeout=2, http_client=clients.cloud.get()
    )
    try:
        async with await client.chat.completions.create(model="m", messages=[], stream=True) as stream:
            async for _ in stream:
                pass
    except (openai.OpenAIError, httpx.HTTPError) as e:
        return e
    finally:
        await clients.cloud.close()
    pytest.fail("the request was answered")


async def failure_of_a_handshake(url):
    """What the WebSocket client raises."""
    tls = {"ssl": clients.tls()} if url.startswith("wss") else {}
    with pytest.raises(Exception, match=r".") as raised:
        await connect(url, open_timeout=1, proxy=None, **tls)
    return raised.value


async def test_dns_without_an_answer():
    for failure in (
        await failure_of_a_request("http://nowhere.invalid/v1"),
        await failure_of_a_handshake("ws://nowhere.invalid/"),
    ):
        assert explained("Unable to connect", failure).startswith(
            "its address cannot be found: DNS has no answer ("
        )


async def test_nothing_listens():
    port = closed_port()
    for failure in (
        await failure_of_a_request(f"http://127.0.0.1:{port}/v1"),
        await failure_of_a_handshake(f"ws://127.0.0.1:{port}/"),
    ):
        assert explained("", failure) == "the connection was refused: nothing listens there"


@pytest.mark.parametrize("expired", [True, False])
async def test_certificates(authority, monkeypatch, expired):
    """A valid one of an authority that nobody trusts, and one that has expired."""
    tls = authority.server(expired=expired)
    if not expired:
        monkeypatch.delenv("SSL_CERT_FILE")
        clients.tls.cache_clear()
    says = "its TLS certificate has expired" if expired else "its TLS certificate is not trusted"
    llm, tts = ChatCompletions("Yes.", tls=tls), cartesia.TextToSpeech(tls)
    async with llm.running() as url, tts.running() as tts_url:
        assert explained("", await failure_of_a_request(url)) == says
        assert explained("", await failure_of_a_handshake(tts_url)) == says


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the key was refused (HTTP 401)"),
        (403, "the key does not allow this (HTTP 403)"),
        (404, "there is no such model or address (HTTP 404)"),
        (418, "the request was refused (HTTP 418)"),
        (429, "too many requests, or the account's credit is used up (HTTP 429)"),
        (500, "the provider failed on its side (HTTP 500)"),
        (503, "the provider failed on its side (HTTP 503)"),
    ],
)
async def test_statuses(status, says):
    llm, tts = ChatCompletions("Yes."), cartesia.TextToSpeech()
    llm.faults.status(status)
    tts.faults.status(status)
    async with llm.running() as url, tts.running() as tts_url:
        assert explained("", await failure_of_a_request(url)) == says
        assert explained("", await failure_of_a_handshake(tts_url)) == says


async def test_silence_and_broken_connections():
    llm = ChatCompletions("Yes, of course.")
    async with llm.running() as url:
        llm.faults.drop_after(1)
        assert explained("", await failure_of_a_request(url)) == "the connection broke off"
    assert explained("", TimeoutError()) == "it did not answer in time"
    assert explained("", httpx.ReadTimeout("")) == "it did not answer in time"
    assert explained("", ConnectionClosedError(None, None)) == "the connection broke off"
    assert explained("", asyncio.IncompleteReadError(b"", 1)) == "the connection broke off"


def test_a_cause_says_more_than_what_it_led_to():
    outer = ExceptionGroup("several", [OSError("all attempts failed")])
    outer.exceptions[0].__cause__ = ssl.SSLError("no shared cipher")
    assert explained("Connection error.", outer) == "TLS could not be agreed on (Connection error.)"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("", "no reason was given"),
        ("a\n  b\ud83d\x00 c", "a b c"),
        ("key sk-abcdefgh1234 at https://u:p@host/", "key sk-… at https://…@host/"),
        ("CartesiaSTTService#4 failed: LocalSTTService#12: no words", "failed: no words"),
        ("x" * 1000, f"{'x' * (MOST_CHARS - 1)}…"),
    ],
)
def test_what_it_said_is_short_and_clean(said, shown):
    assert explained(said) == shown
    assert explained(said, ValueError("of no meaning")) == shown


def test_an_error_that_refers_to_itself():
    error = ValueError("a")
    error.__cause__ = RuntimeError("b")
    error.__cause__.__cause__ = error
    assert explained("told", error) == "told"


def test_what_failed_before_is_no_cause():
    """A connection breaks off; connecting anew is refused."""
    error = ConnectionRefusedError()
    error.__context__ = ConnectionClosedError(None, None)
    assert explained("", error) == "the connection was refused: nothing listens there"
    assert explained("", error.__context__) == "the connection broke off"
