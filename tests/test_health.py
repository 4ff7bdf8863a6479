import asyncio
import threading

import pytest
from channels.layers import InMemoryChannelLayer
from django.db.backends.utils import CursorWrapper

from calls.models import PromptProfile
from calls.pages import health
from calls.process import State, this_process

ALL_OK = dict.fromkeys(("process", "recorder", "database", "channel_layer", "models", "profiles"), "ok")


@pytest.fixture
def published(transactional_db):
    """A profile that answers, for other threads to see."""
    PromptProfile.objects.ensure_default()


@pytest.fixture
def models_ready(monkeypatch, published):
    """Models that say they are loaded: loading them is not what is tested here."""
    state = {"stt": True, "llm": True, "tts": True}
    monkeypatch.setattr(health.catalogue, "ready", lambda: state)
    return state


@pytest.fixture
def short_checks(monkeypatch):
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.2)


async def test_healthz_needs_no_database_and_no_login(async_client):
    response = await async_client.get("/healthz")
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}
    assert "no-cache" in response["Cache-Control"]


async def test_readyz_says_ok_when_all_is_there(async_client, models_ready):
    response = await async_client.get("/readyz")
    no_calls = {"running": 0, "most": None, "refused": 0}
    assert response.json() == {"status": "ok", "checks": ALL_OK, "calls": no_calls}
    assert response.status_code == 200


async def test_readyz_fails_at_once_when_the_process_is_about_to_end(async_client, models_ready):
    this_process.move(State.DRAINING)
    response = await async_client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["process"] == "draining, calls left: 0"


async def test_readyz_names_the_models_that_are_missing(async_client, models_ready):
    models_ready.update(stt=False, tts=False)
    response = await async_client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["status"] == "unavailable"
    assert response.json()["checks"]["models"] == "not ready: stt, tts"


async def test_readyz_fails_when_no_profile_would_answer(async_client, models_ready):
    """Every call would be refused. A profile without a version answers none."""
    await PromptProfile.objects.all().adelete()
    await PromptProfile.objects.acreate(name="Draft", slug="draft", is_published=True)
    response = await async_client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == ALL_OK | {"profiles": "none is published"}


async def test_a_failing_database_is_reported_without_its_message(async_client, models_ready, monkeypatch):
    def refuse(*args):
        raise ConnectionError("password of db.internal")

    with monkeypatch.context() as away:
        away.setattr(CursorWrapper, "execute", refuse)
        response = await async_client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == ALL_OK | {"database": "failed", "profiles": "failed"}


async def test_a_channel_layer_that_hangs_degrades_and_stops_no_call(
    async_client, models_ready, monkeypatch, short_checks
):
    async def receive_nothing(self, channel):
        await asyncio.Event().wait()

    monkeypatch.setattr(InMemoryChannelLayer, "receive", receive_nothing)
    response = await async_client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (200, "degraded")
    assert response.json()["checks"]["channel_layer"] == "no answer within 0.2 s"
    this_process.move(State.DRAINING)
    response = await async_client.get("/readyz")
    assert (response.status_code, response.json()["status"]) == (503, "unavailable")


async def test_models_that_hang_gather_no_threads(async_client, published, monkeypatch, short_checks):
    released = threading.Event()
    started = []

    def hang():
        started.append(threading.current_thread())
        released.wait(timeout=30)
        return {}

    monkeypatch.setattr(health.catalogue, "ready", hang)
    try:
        for _ in range(3):
            response = await async_client.get("/readyz")
            assert response.json()["checks"]["models"] == "no answer within 0.2 s"
            assert response.json()["checks"]["database"] == "ok"
        assert len(started) == 1
    finally:
        released.set()


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_only_read(async_client, path):
    assert (await async_client.post(path)).status_code == 405
