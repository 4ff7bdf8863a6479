"""What is done at a PBX from our side: over its APIs, by its next question, and for callers in silence."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from asgiref.sync import sync_to_async

from calls.conversation.control import Refused
from calls.gateway import registry
from calls.gateway.pbx.arriving import arrive
from calls.gateway.pbx.control import BridgeControl, ForkControl
from calls.gateway.pbx.watchdog import Watchdog, watchdog
from calls.gateway.places import places
from calls.models import EndReason, Pbx, PbxSession, SessionState
from calls.rustpbx.api import ApiFailed, PbxApi, answered_at
from calls.simulator.pbx import API_TOKEN, RWI_TOKEN
from calls.simulator.pbx import Pbx as RustPbx
from calls.simulator.telephone import Ivr
from tests.test_pbx import settled  # noqa: F401  a fixture

AT = datetime(2026, 8, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
async def rustpbx():
    async with RustPbx() as rustpbx:
        yield rustpbx


def api_of(rustpbx):
    return PbxApi(rustpbx.url, API_TOKEN, RWI_TOKEN)


def ringing(rustpbx):
    """A telephone call that is there and does nothing yet."""
    return rustpbx.call(Ivr("http://127.0.0.1:9", "token"), [])


# --- Its APIs ---------------------------------------------------------------------------------------------


async def test_a_call_is_hung_up_over_rest(rustpbx):
    telephone = ringing(rustpbx)
    assert await api_of(rustpbx).active() == 1
    assert await api_of(rustpbx).hang_up(telephone.session_id)
    assert rustpbx.commands == [("rest hangup", telephone.session_id)]
    assert not await api_of(rustpbx).hang_up("gone")


async def test_a_caller_is_sent_back_over_rwi(rustpbx):
    telephone = ringing(rustpbx)
    await api_of(rustpbx).check_rwi()
    await api_of(rustpbx).send_back(telephone.session_id, "voiceagent")
    assert rustpbx.commands == [("rwi transfer", telephone.session_id)]
    with pytest.raises(ApiFailed, match="no such call"):
        await api_of(rustpbx).send_back("gone", "voiceagent")


async def test_what_fails_is_told_without_the_token(rustpbx):
    wrong = PbxApi(rustpbx.url, "secret-1", "secret-2")
    nowhere = PbxApi("http://127.0.0.1:9", "secret-1", "secret-2")
    for api, says in (
        (wrong, "401"),
        (nowhere, "cannot be reached"),
        (PbxApi("http://[", "s", "s"), "cannot"),
    ):
        for order in (api.active, api.check_rwi):
            with pytest.raises(ApiFailed, match=says) as failed:
                await order()
            assert "secret" not in str(failed.value)


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ({"calls": [{"id": "a", "answer_time": "2026-08-01T12:00:01Z"}]}, ["a"]),
        ({"calls": [{"id": "a", "answer_time": "2026-08-01T14:00:00+02:00"}]}, ["a"]),
        ([{"id": "a", "answerTime": "2026-08-01T11:59:58Z"}, {"id": "b", "answered_at": "x"}], []),
        ({"calls": [{"id": n, "answer_time": "2026-08-01T12:00:00Z"} for n in ("a", "b", 5)]}, ["a", "b"]),
        ({"calls": None}, []),
        ([None, 5, {"id": "a", "answer_time": None}, {"id": "a", "answer_time": "2026-99-01T12:00:00Z"}], []),
        (None, []),
    ],
)
def test_the_forks_calls_are_found_by_when_they_were_answered(listed, found):
    assert list(answered_at(listed, AT)) == found


async def fork(calls):
    killed = []

    async def lists(_request):
        return web.json_response({"calls": calls})

    async def kill(request):
        killed.append(request.match_info["id"])
        return web.json_response(True)

    app = web.Application()
    app.router.add_get("/ami/v1/lists", lists)
    app.router.add_post("/ami/v1/kill/{id}", kill)
    server = TestServer(app)
    await server.start_server()
    return server, killed


async def test_the_forks_call_is_ended_if_it_is_the_only_one():
    one = {"id": "x/1", "answer_time": "2026-08-01T12:00:00Z"}
    server, killed = await fork([one])
    control = ForkControl(PbxApi(str(server.make_url("")).rstrip("/")), AT)
    assert control.destinations() == {}
    await control.end()
    assert killed == ["x/1"]
    with pytest.raises(Refused, match="cannot hand calls on"):
        await control.transfer("sales")
    await control.leaving(EndReason.AUDIO_STOPPED)
    await control.leaving(EndReason.DISCONNECT)
    assert len(killed) == 1
    await control.leaving(EndReason.MAX_DURATION)
    assert len(killed) == 2
    with pytest.raises(Refused, match="found no call"):
        await ForkControl(control.api, AT + timedelta(minutes=1)).end()
    await server.close()
    server, killed = await fork([one, {**one, "id": "y"}])
    with pytest.raises(Refused, match="found 2 calls"):
        await ForkControl(PbxApi(str(server.make_url("")).rstrip("/")), AT).end()
    assert killed == []
    await server.close()
    with pytest.raises(Refused, match="not known"):
        await ForkControl(PbxApi(""), AT).end()


# --- By the next question ---------------------------------------------------------------------------------


@sync_to_async
def bridged(console_url="", rwi=True):
    """A call whose bridge was answered; its PBX has destinations."""
    pbx = Pbx(name="main", agent_url="http://agent:1", console_url=console_url)
    pbx.api_token, pbx.rwi_token = API_TOKEN, RWI_TOKEN if rwi else ""
    pbx.save()
    pbx.destinations.create(name="sales", target="sip:200@pbx", description="The sales desk")
    pbx.destinations.create(name="support", target="q", kind="queue")
    session = PbxSession.objects.create(
        pbx=pbx, session_id="s", caller="1001", callee="agent", state="bridging"
    )
    session.bridge()
    session.save()
    return session


@sync_to_async
def stored():
    return PbxSession.objects.get()


@pytest.mark.django_db(transaction=True)
class TestByItsNextQuestion:
    async def test_a_ticket_tells_who_comes(self):
        session = await bridged()
        places.keep(session.key, 60, None)
        arrival = await arrive({"ticket": session.ticket})
        assert (arrival.key, arrival.told["caller"], arrival.told["callee"]) == (
            session.key,
            "1001",
            "agent",
        )
        assert arrival.told["room_id"] == "s"
        assert arrival.control.destinations() == {"sales": "The sales desk", "support": "support"}
        assert places.kept == 0
        assert await arrive({"ticket": session.ticket}) is None
        assert (await stored()).state == SessionState.TALKING
        assert (await arrive({})).key == (await arrive({"pbx": "99"})).key == ""

    async def test_a_connection_after_the_call_has_ended_is_another_call_of_the_same_telephone(self):
        session = await bridged()
        first = await arrive({"ticket": session.ticket})
        session = await stored()
        session = await sync_to_async(PbxSession.objects.select_related("pbx").get)()
        session.bridge("the connection was interrupted")
        await session.asave()
        second = await arrive({"ticket": session.ticket})
        assert second.told["call_id"] not in (None, first.told["call_id"])
        assert (await stored()).call_id == second.told["call_id"]

    async def test_what_is_decided_is_stored(self):
        session = await bridged()
        control = (await arrive({"ticket": session.ticket})).control
        await control.transfer("sales")
        found = await stored()
        assert (found.decision, found.destination, found.target) == ("transfer", "sales", "sip:200@pbx")
        await control.transfer("support")
        assert (await stored()).decision == "queue"
        await control.end()
        assert ((await stored()).decision, (await stored()).target) == ("hang_up", "")
        with pytest.raises(Refused, match="expected a destination out of sales, support, got 'x'"):
            await control.transfer("x")

    @pytest.mark.parametrize(
        ("reason", "decision"),
        [
            (EndReason.MAX_DURATION, "hang_up"),
            (EndReason.HUNG_UP, "hang_up"),
            (EndReason.ABUSE, "hang_up"),
            (EndReason.SHUTDOWN, "overflow"),
            (EndReason.ERROR, "overflow"),
            (EndReason.DISCONNECT, ""),
            (EndReason.CLOSED, ""),
        ],
    )
    async def test_whatever_ends_the_connection_something_follows(self, reason, decision):
        session = await bridged()
        arrival = await arrive({"ticket": session.ticket})
        await arrival.leaving(reason)
        assert (await stored()).decision == decision

    async def test_what_was_decided_before_counts(self):
        session = await bridged()
        arrival = await arrive({"ticket": session.ticket})
        await arrival.control.transfer("sales")
        await arrival.leaving(EndReason.TRANSFERRED)
        assert (await stored()).decision == "transfer"

    async def test_a_call_that_is_not_ours_any_more_is_hung_up_over_rest(self, rustpbx):
        session = await bridged(rustpbx.url)
        control = (await arrive({"ticket": session.ticket})).control
        await sync_to_async(PbxSession.objects.update)(bridges=2)
        with pytest.raises(Refused, match="has ended"):
            await control.transfer("sales")
        ringing(rustpbx).session_id = "s"
        rustpbx.calls["s"] = ringing(rustpbx)
        await control.end()
        assert [command for command, _ in rustpbx.commands] == ["rest hangup"]
        without = BridgeControl(session.pk, 1, "s", {}, PbxApi(""))
        with pytest.raises(Refused, match="no REST API"):
            await without.end()


# --- Callers in silence -----------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
class TestInSilence:
    async def rescued(self, rustpbx, session):
        rustpbx.calls["s"] = ringing(rustpbx)
        dog = Watchdog()
        await dog._overdue(session.pk, session.bridges, SessionState.BRIDGING)
        await dog.close()
        return [command for command, _ in rustpbx.commands]

    async def test_they_are_sent_back_to_the_ivr(self, rustpbx):
        assert await self.rescued(rustpbx, await bridged(rustpbx.url)) == ["rwi transfer"]

    async def test_without_rwi_they_are_hung_up_on(self, rustpbx):
        assert await self.rescued(rustpbx, await bridged(rustpbx.url, rwi=False)) == ["rest hangup"]

    async def test_one_who_has_come_is_left_alone(self, rustpbx):
        session = await bridged(rustpbx.url)
        await arrive({"ticket": session.ticket})
        assert await self.rescued(rustpbx, session) == []

    async def test_only_one_process_does_it(self, rustpbx):
        session = await bridged(rustpbx.url)
        assert (
            await self.rescued(rustpbx, session) == await self.rescued(rustpbx, session) == ["rwi transfer"]
        )

    async def helped(self, rustpbx, session, monkeypatch, until):
        """What was ordered by the time `until` says it is enough."""
        monkeypatch.setattr("calls.gateway.pbx.watchdog.AGAIN_S", 0.05)
        monkeypatch.setattr("calls.models.pbx_session.RESCUED_EVERY", timedelta(0))
        rustpbx.calls["s"] = ringing(rustpbx)
        dog = Watchdog()
        dog.expect(session.pk, session.bridges, 0.0, SessionState.BRIDGING)
        async with asyncio.timeout(20):
            while not await until():  # noqa: ASYNC110  a row, or the simulator's list
                await asyncio.sleep(0.02)
        await dog.close()
        return [command for command, _ in rustpbx.commands]

    async def test_it_is_tried_again_while_the_pbx_cannot(self, rustpbx, monkeypatch):
        session = await bridged(rustpbx.url)
        monkeypatch.setattr("calls.simulator.pbx.API_TOKEN", "not yet")
        monkeypatch.setattr("calls.simulator.pbx.RWI_TOKEN", "not yet")

        async def until():
            if (await stored()).rescues == 2:
                monkeypatch.undo()
            return rustpbx.commands

        assert len(await self.helped(rustpbx, session, monkeypatch, until)) == 1

    async def test_one_who_is_sent_back_and_not_asked_about_is_hung_up_on(self, rustpbx, monkeypatch):
        session = await bridged(rustpbx.url)

        async def until():
            return (await stored()).state == SessionState.LEAVING

        commands = await self.helped(rustpbx, session, monkeypatch, until)
        assert commands == ["rwi transfer", "rest hangup"]

    async def test_it_is_not_tried_for_ever(self, rustpbx, monkeypatch, caplog):
        session = await bridged("http://127.0.0.1:9")
        monkeypatch.setattr("calls.gateway.pbx.watchdog.MOST_RESCUES", 2)
        monkeypatch.setattr("calls.models.pbx_session.MOST_RESCUES", 2)

        async def until():
            return not registry.awaited

        assert await self.helped(rustpbx, session, monkeypatch, until) == []
        assert (await stored()).rescues == 2

    async def test_a_call_that_the_pbx_has_not_any_more_is_over(self, rustpbx):
        session = await bridged(rustpbx.url, rwi=False)
        dog = Watchdog()
        await dog._overdue(session.pk, session.bridges, SessionState.BRIDGING)
        await dog.close()
        assert (await stored()).state == SessionState.ENDED

    async def test_a_pbx_without_a_way_is_logged(self, rustpbx, caplog):
        session = await bridged("")
        assert await self.rescued(rustpbx, session) == []
        assert "stays in silence" in caplog.text

    async def test_what_is_expected_is_looked_for_in_time(self, rustpbx):
        session = await bridged(rustpbx.url)
        rustpbx.calls["s"] = ringing(rustpbx)
        ordered = rustpbx.calls["s"]._orders
        watchdog.expect(session.pk, 1, 0.01, SessionState.BRIDGING)
        assert (await ordered.get())["variables"] == {"return_from": "rwi"}
        watchdog.expect(session.pk, 1, 60, SessionState.BRIDGING)
        assert not await registry.ended(0)  # a process about to stop waits for it
        ended = asyncio.create_task(registry.ended(60))
        watchdog.forget(session.pk)
        assert await ended
        assert not watchdog._timers
