"""RustPBX's questions go past the pages, straight to their views."""

import json

import pytest

from calls.gateway.pbx.door import MOST_BYTES, QuestionsFirst


async def answered(path, *bodies, method="POST", gone=False):
    """What an ASGI server gets for a request; None for one that is not RustPBX's."""
    sent, others = [], []

    async def pages(*_):
        others.append(True)

    last = len(bodies) - 1
    messages = [
        {"type": "http.request", "body": body, "more_body": n < last} for n, body in enumerate(bodies)
    ]
    if gone:
        messages[-1] = {"type": "http.disconnect"}

    async def receive():
        return messages.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": [], "query_string": b""}
    await QuestionsFirst(pages)(scope, receive, send)
    return None if others else sent


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/rustpbx/ivr/start", b"{}", 200),
        ("/rustpbx/nothing", b"", 404),
        ("/rustpbx/ivr/start", b"x" * (MOST_BYTES + 1), 413),
    ],
)
async def test_questions_are_answered(path, body, status):
    start, end = await answered(path, body)
    assert start["status"] == status
    assert (b"content-length", b"%d" % len(end["body"])) in start["headers"]


async def test_a_body_may_come_in_pieces():
    start, end = await answered("/rustpbx/ivr/end", b'{"reason":', b' "transfer"}')
    assert (start["status"], json.loads(end["body"])) == (200, {})
    assert (b"content-type", b"application/json") in start["headers"]


async def test_what_asks_is_only_posted():
    assert (await answered("/rustpbx/ivr", b"", method="GET"))[0]["status"] == 405


async def test_a_client_that_goes_away_is_not_answered():
    assert await answered("/rustpbx/ivr/start", b"{}", gone=True) == []


async def test_everything_else_is_a_page():
    assert await answered("/calls/", b"") is None
    assert await answered("/rustpbx", b"") is None


@pytest.mark.django_db(transaction=True)
async def test_a_stranger_is_refused_and_a_fault_is_no_silence_of_ours(monkeypatch):
    assert (await answered("/rustpbx/webhook", b"{}"))[0]["status"] == 401

    def broken(_path):
        raise RuntimeError("broken")

    monkeypatch.setattr("calls.gateway.pbx.door.resolve", broken)
    assert (await answered("/rustpbx/webhook", b"{}"))[0]["status"] == 500
