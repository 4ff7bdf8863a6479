"""Questions of a PBX while the database is slow or away: what is answered is stored, sooner or later."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from django.db import connection, transaction
from django.test import AsyncClient

from calls.gateway.pbx import later, views
from calls.gateway.pbx.watchdog import watchdog
from calls.gateway.places import places
from calls.models import CallSession, PbxSession, PromptProfile
from calls.recorder.writer import recorder
from tests.test_ivr import START, asked
from tests.test_pbx import make_pbx, settled  # noqa: F401  the last is a fixture

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "a1b2@10.0.0.4"


@pytest.fixture
def pbx():
    PromptProfile.objects.ensure_default()
    return make_pbx(overflow_text="Nobody is here.", overflow_target="sip:100@pbx")


@pytest.fixture
def hurry(monkeypatch):
    """Waits are short, so that the tests are."""
    monkeypatch.setattr(views, "ANSWERED_WITHIN_S", 0.2)
    monkeypatch.setattr(later, "EVERY_S", 0.1)


async def ask(pbx, event=START, **fields):
    """The answer; what is stored of it comes later."""
    body, headers = asked(event, **fields), {"Authorization": f"Bearer {pbx[1]}"}
    response = await AsyncClient().post("/rustpbx/ivr", body, "application/json", headers=headers)
    assert response.status_code == 200
    return response.json()


class Undone(Exception):
    pass


@asynccontextmanager
async def slow_database(pbx):
    """Whoever stores something of the session waits until the end of the block."""
    begun, over = threading.Event(), threading.Event()

    def hold():
        try:
            with transaction.atomic():
                if not PbxSession.objects.select_for_update().filter(session_id=NAME):
                    PbxSession.objects.create(pbx=pbx[0], session_id=NAME, state="leaving")
                begun.set()
                over.wait(20)
                raise Undone
        except Undone:
            pass
        finally:
            connection.close()

    holding = asyncio.create_task(asyncio.to_thread(hold))
    assert await asyncio.to_thread(begun.wait, 10)
    try:
        yield
    finally:
        over.set()
        await holding


async def stored(**fields):
    """The session once it stands so, and all of its call is stored."""
    async with asyncio.timeout(10):
        found = PbxSession.objects.select_related("call")
        while (session := await found.filter(session_id=NAME, **fields).afirst()) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert await recorder().flush(5)
    return await found.aget(pk=session.pk)


async def test_what_was_answered_while_the_database_was_slow_is_what_is_stored(pbx, hurry):
    await ask(pbx, session_id="first")  # the PBX is known
    async with slow_database(pbx):
        answer = await ask(pbx)
        assert (answer["type"], answer["target"]) == ("transfer", "sip:100@pbx")
    session = await stored(state="overflowing")
    assert (session.bridges, session.ticket_hash) == (0, "")
    assert (session.call.status, session.call.end_reason) == ("failed", "overflow")
    assert session.call.caller == "1001"
    assert places.kept == 1  # the first call's
    assert len(watchdog._timers) == 1
    assert (await ask(pbx, {"type": "transfer_result", "status": "not_connected"}))["type"] == "prompt"


async def test_the_same_is_answered_before_it_can_be_stored(pbx, hurry):
    await ask(pbx, session_id="first")
    async with slow_database(pbx):
        answer = await ask(pbx)
        assert await ask(pbx) == answer
        assert (await ask(pbx, {"type": "transfer_result", "status": "not_connected"}))["type"] == "prompt"
        assert await ask(pbx, {"type": "audio_complete"}) == {"type": "hangup"}
    await stored(state="leaving")
    assert await CallSession.objects.filter(room_id=NAME).acount() == 1
