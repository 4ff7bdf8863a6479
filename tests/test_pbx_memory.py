"""Questions of a PBX while the database is slow or away: what is answered is stored, sooner or later."""

import asyncio
import threading
from contextlib import asynccontextmanager
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection, transaction
from django.test import AsyncClient

from calls.gateway.pbx import answering, later, views
from calls.gateway.pbx.arriving import arrive
from calls.gateway.pbx.watchdog import watchdog
from calls.gateway.places import places
from calls.gateway.server import lifespan
from calls.models import CallSession, EndReason, PbxSession, PromptProfile
from calls.recorder.writer import recorder
from tests.test_ivr import START, asked
from tests.test_pbx import hung_up, make_pbx, returned, settled  # noqa: F401  the last is a fixture

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "a1b2@10.0.0.4"


@pytest.fixture
def pbx():
    PromptProfile.objects.ensure_default()
    return make_pbx(overflow_text="Nobody is here.", overflow_target="sip:100@pbx")


@pytest.fixture
def hurry(monkeypatch):
    """From when it is called, waits are short."""
    monkeypatch.setattr(later, "EVERY_S", 0.1)
    return lambda: monkeypatch.setattr(views, "ANSWERED_WITHIN_S", 0.2)


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
                if not list(PbxSession.objects.select_for_update().filter(session_id=NAME)):
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
        hurry()
        assert not await connects(await ask(pbx))
        answer = await ask(pbx, variables=returned(1))
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
        hurry()
        answer = await ask(pbx)
        assert await ask(pbx) == answer
        assert (await ask(pbx, {"type": "transfer_result", "status": "not_connected"}))["type"] == "prompt"
        assert await ask(pbx, {"type": "audio_complete"}) == {"type": "hangup"}
    await stored(state="leaving")
    assert await CallSession.objects.filter(room_id=NAME).acount() == 1


async def connects(answer):
    """The call whose audio is connected as this answer says; None if the ticket opens nothing."""
    query = parse_qs(urlsplit(answer["create_room_uri"]).query)
    return await arrive({name: values[0] for name, values in query.items()})


async def talks(pbx):
    """The control of a call on which the agent talks."""
    return (await connects(await ask(pbx))).control


async def test_what_the_conversation_has_decided_is_done_while_the_database_is_slow(pbx, hurry, monkeypatch):
    await pbx[0].destinations.acreate(name="sales", target="sip:200@pbx")
    control = await talks(pbx)
    async with slow_database(pbx):
        hurry()
        monkeypatch.setattr("calls.gateway.pbx.control.STORED_WITHIN_S", 0.1)
        await control.transfer("sales")
        await control.leaving(EndReason.TRANSFERRED)
        assert (await ask(pbx, variables=returned(1)))["target"] == "sip:200@pbx"
    session = await stored(state="transferring")
    assert (session.decision, session.destination) == ("transfer", "sales")
    back = await ask(pbx, {"type": "transfer_result", "status": "not_connected"})
    assert back["type"] == "bridge"


async def test_after_the_farewell_no_other_telephone_rings_while_the_database_is_slow(pbx, hurry):
    control = await talks(pbx)
    await control.end()
    async with slow_database(pbx):
        hurry()
        assert await ask(pbx, variables=returned(1)) == {"type": "hangup"}
    await stored(state="leaving")


async def test_a_decision_counts_that_is_made_while_the_database_is_slow(pbx, hurry, monkeypatch):
    control = await talks(pbx)
    async with slow_database(pbx):
        monkeypatch.setattr("calls.gateway.pbx.control.STORED_WITHIN_S", 0.1)
        await control.end()
    await stored(decision="hang_up")
    assert await ask(pbx, variables=returned(1)) == {"type": "hangup"}


async def test_the_end_of_a_call_is_stored_although_the_database_is_slow(pbx, hurry):
    await ask(pbx)
    headers = {"Authorization": f"Bearer {pbx[1]}"}
    async with slow_database(pbx):
        hurry()
        told = await AsyncClient().post("/rustpbx/webhook", hung_up(), "application/json", headers=headers)
        assert told.status_code == 200
    session = await stored(state="ended", hung_up_by="caller")
    assert session.call.end_reason == "disconnect"


async def test_the_end_of_a_call_is_stored_when_the_database_is_back(pbx, hurry, monkeypatch):
    await ask(pbx)
    hurry()

    def away(*_args):
        raise OSError("away")

    with monkeypatch.context() as patch:
        patch.setattr(PbxSession.objects._queryset_class, "end", away)
        headers = {"Authorization": f"Bearer {pbx[1]}"}
        told = await AsyncClient().post("/rustpbx/webhook", hung_up(), "application/json", headers=headers)
        assert told.status_code == 200
    await stored(state="ended", hung_up_by="caller")
    assert places.kept == 0


async def test_a_pbx_is_known_before_its_first_question(pbx, monkeypatch):
    await lifespan.pbx_ready()

    def away(*_args):
        raise OSError("away")

    monkeypatch.setattr(answering, "answer", away)
    assert not await connects(await ask(pbx))
    assert (await ask(pbx, variables=returned(1)))["target"] == "sip:100@pbx"
