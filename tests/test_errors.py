"""Pages that cannot be shown: each mistake of a client's is its own, and one line in the log."""

import io
import logging

import pytest
from django.test import Client, RequestFactory

from tests.fuzz.requests import CSRF
from voiceagent.logs import RefusedRequests

pytestmark = pytest.mark.django_db

UNREADABLE = [
    "application/x-www-form-urlencoded; charset=utf-7",
    "multipart/form-data",
    "multipart/form-data; boundary=" + "x" * 300,
]


@pytest.fixture
def strict():
    """A client whose token is looked at, as a browser's is, and of which exceptions become pages."""
    client = Client(enforce_csrf_checks=True, raise_request_exception=False)
    client.cookies["csrftoken"] = CSRF
    return client


@pytest.fixture
def console(monkeypatch):
    """What the handler of the settings writes."""
    (handler,) = [each for each in logging.getLogger().handlers if type(each) is logging.StreamHandler]
    monkeypatch.setattr(handler, "stream", io.StringIO())
    return handler.stream


@pytest.mark.parametrize("content_type", UNREADABLE)
@pytest.mark.parametrize("path", ["/login/", "/admin/login/", "/nowhere/"])
def test_a_form_that_cannot_be_read_is_the_clients_mistake(strict, path, content_type):
    response = strict.generic("POST", path, b"x=1", content_type, HTTP_X_CSRFTOKEN=CSRF)
    assert response.status_code in (400, 404)


@pytest.mark.parametrize("how", [{"HTTP_HOST": "evil.example"}, {"content_type": UNREADABLE[0]}])
def test_what_is_refused_is_one_line_of_log(strict, console, how):
    assert strict.post("/login/", b"x=1", **{"content_type": "text/plain", **how}).status_code == 400
    assert len(console.getvalue().splitlines()) == 1


def test_a_readyz_that_says_no_is_no_error_of_the_log():
    record = logging.makeLogRecord({"request": RequestFactory().get("/readyz"), "status_code": 503})
    assert not RefusedRequests().filter(record)
    record.request.path = "/calls/"
    assert RefusedRequests().filter(record)


def test_a_fault_of_ours_keeps_its_traceback():
    record = logging.makeLogRecord({"exc_info": (ValueError, ValueError("x"), None), "status_code": 500})
    RefusedRequests().filter(record)
    assert record.exc_info
