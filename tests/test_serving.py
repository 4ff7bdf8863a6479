"""How pages are served beside calls. What that does for calls is in tests/e2e/test_pages_beside_calls.py."""

import asyncio
import sys
import threading

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.signals import request_finished

from calls.pages.serving import SWITCH_S, Pages

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def pages():
    before = sys.getswitchinterval()
    yield Pages()
    sys.setswitchinterval(before)


async def status(pages, path):
    scope = {
        "type": "http", "method": "GET", "path": path, "query_string": b"",
        "headers": [(b"host", b"testserver")], "client": ["127.0.0.1", 4711], "server": ["testserver", 80],
    }  # fmt: skip
    asked = ApplicationCommunicator(pages, scope)
    await asked.send_input({"type": "http.request", "body": b"", "more_body": False})
    answer = await asked.receive_output(timeout=30)
    await asked.wait(timeout=30)
    return answer["status"]


async def test_all_pages_are_made_in_one_thread(pages):
    threads = set()

    def note(**_kwargs):
        threads.add(threading.current_thread().name)

    request_finished.connect(note)
    try:
        answers = await asyncio.gather(*(status(pages, "/login/") for _ in range(20)))
    finally:
        request_finished.disconnect(note)
    assert set(answers) == {200}
    assert threads == {"pages_0"}


async def test_a_probe_waits_for_no_page(pages):
    done = threading.Event()
    hanging = pages._thread.submit(done.wait)
    try:
        assert await status(pages, "/healthz") == 200
    finally:
        done.set()
    assert hanging.result()


async def test_threads_give_way_to_the_event_loop_soon(pages):
    assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
