"""A PBX as it is stored, and what it asks and tells over HTTP."""

import asyncio
import json
import threading
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import ValidationError
from django.test import AsyncClient
from django.urls import reverse
from django.utils import timezone

from calls.events import Request
from calls.gateway import admission
from calls.gateway.pbx import answering, arriving, database, ending, later, pbxes
from calls.gateway.pbx.arriving import arrive
from calls.gateway.pbx.first import first
from calls.gateway.pbx.memory import memory
from calls.gateway.pbx.watchdog import watchdog
from calls.gateway.places import Places, places
from calls.models import (
    CallSession,
    CallStatus,
    Decision,
    Destination,
    EndReason,
    Pbx,
    PbxRoute,
    PbxSession,
    PromptProfile,
    Rule,
    SessionState,
)
from calls.models.tokens import hashed
from calls.process import State, this_process
from calls.profiles import choosing
from calls.recorder import writer
from calls.recorder.writer import recorder
from tests.conftest import edit_profiles, node_row, publish_profile
from tests.test_ivr import START, asked

pytestmark = pytest.mark.django_db(transaction=True)
SECRET = "Digest username"


def make_pbx(**fields):
    values = {"name": "main", "agent_url": "http://agent:8765", "overflow_target": "", "overflow_text": ""}
    pbx = Pbx.objects.create(**values | fields)
    return pbx, pbx.new_ivr_token()


@pytest.fixture
def pbx():
    PromptProfile.objects.ensure_default()
    return make_pbx(kept_headers="X-Customer", overflow_text="Nobody is here.")


@pytest.fixture(autouse=True)
async def settled():
    """Nothing that a test has begun outlives it, or is remembered."""
    pbxes.forget()
    yield
    await first.close()
    await watchdog.close()
    await later.close()
    await writer.close()
    database.close()
    places._until.clear()
    memory.clear()


async def post(path, token, body):
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    answer = await AsyncClient().post(path, body, content_type="application/json", headers=headers)
    await first.stored()
    assert await recorder().flush(5)
    return answer


async def ask(pbx, event=START, **fields):
    response = await post("/rustpbx/ivr", pbx[1], asked(event, **fields))
    assert response.status_code == 200
    return response.json()


def returned(bridge):
    return {"return_from": "bridge", "return_bridge": str(bridge)}


def query_of(answer):
    return {name: values[0] for name, values in parse_qs(urlsplit(answer["create_room_uri"]).query).items()}


@sync_to_async
def session_of():
    return PbxSession.objects.select_related("call", "pbx", "node").get()


@sync_to_async
def connect(answer):
    return PbxSession.objects.redeem(query_of(answer)["ticket"], uuid4())


@sync_to_async
def decide(decision, destination=None):
    session = PbxSession.objects.get()
    return PbxSession.objects.decide(session.pk, session.bridges, decision, destination)


# --- As it is stored --------------------------------------------------------------------------------------


def test_a_token_is_shown_once_and_the_one_before_is_valid_until_it_is_used():
    pbx, first = make_pbx()
    assert first not in str(Pbx.objects.values().get())
    second = pbx.new_ivr_token()
    assert Pbx.objects.of_token(first) == Pbx.objects.of_token(second) == pbx
    Pbx.objects.get().token_used(first)
    assert Pbx.objects.of_token(first) == pbx
    Pbx.objects.get().token_used(second)
    assert Pbx.objects.of_token(first) is None
    assert Pbx.objects.of_token("") is Pbx.objects.of_token("x") is None


def test_tokens_of_the_pbx_are_stored_encrypted():
    pbx, _ = make_pbx()
    pbx.api_token, pbx.rwi_token = "api-secret", "rwi-secret"
    pbx.save()
    assert "secret" not in str(Pbx.objects.values().get())
    stored = Pbx.objects.get()
    assert (stored.api_token, stored.rwi_token) == ("api-secret", "rwi-secret")


def test_the_first_route_that_matches_chooses_the_profile():
    pbx, _ = make_pbx()
    for position, (slug, callee, caller) in enumerate(
        [("vip", "agent", "+4930*"), ("sales", "Sales", ""), ("night", "", "anonymous")]
    ):
        profile = publish_profile(slug)
        PbxRoute.objects.create(pbx=pbx, position=9 - position, callee=callee, caller=caller, profile=profile)
    PbxRoute.objects.create(pbx=pbx, position=20, callee="agent", profile=publish_profile("rest"))
    chosen = [
        pbx.profile_for(*pair)
        for pair in [("agent", "+49301"), ("sales", "1"), ("x", "Anonymous"), ("agent", "1"), ("x", "1")]
    ]
    assert chosen == ["vip", "sales", "night", "rest", ""]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("agent_url", "ws://agent:8765"),
        ("agent_url", "http://"),
        ("agent_url", "http://u:p@agent"),
        ("agent_url", "http://agent:99999"),
        ("agent_url", "http://agent/?x=1"),
        ("console_url", "pbx:8080"),
        ("timeout_ms", 0),
        ("sample_rate", 11_025),
        ("return_target", "voice agent?"),
        ("kept_headers", "X-A, Proxy-Authorization"),
        ("kept_headers", "X-Auth-Token"),
        ("kept_headers", "X-Api-Key"),
    ],
)
def test_what_cannot_be_right_is_refused(field, value):
    pbx = Pbx(name="p", agent_url="http://agent:8765", kept_headers="P-Asserted-Identity, X-Customer")
    pbx.full_clean()
    setattr(pbx, field, value)
    with pytest.raises(ValidationError) as refused:
        pbx.full_clean()
    assert list(refused.value.message_dict) == [field]


def test_the_target_of_a_queue_has_no_question_mark():
    pbx, _ = make_pbx()
    with pytest.raises(ValidationError, match="queue"):
        Destination(pbx=pbx, name="q", target="support?x=1", kind="queue").full_clean()
    Destination(pbx=pbx, name="q", target="sip:1@pbx?x=1").full_clean()


# --- Its questions ----------------------------------------------------------------------------------------


async def test_a_call_is_bridged_stored_and_has_its_place(pbx, caplog):
    answer = await ask(pbx)
    query = query_of(answer)
    assert answer["create_room_uri"].startswith("ws://agent:8765/ws/rustpbx?")
    assert (answer["return_app"], answer["return_target"]) == ("ivr", "voiceagent")
    assert (query["timeout_ms"], query["rate"], query["return_bridge"]) == ("3000", "8000", "1")
    session = await session_of()
    assert (session.state, session.bridges, session.caller, session.callee) == (
        "bridging",
        1,
        "1001",
        "agent",
    )
    assert session.ticket_hash == hashed(query["ticket"])
    call = session.call
    assert (call.room_id, call.caller, call.callee) == ("a1b2@10.0.0.4", "1001", "agent")
    assert (call.status, call.caller_normalised) == ("active", "1001")
    assert call.metadata == {
        "pbx": "main",
        "from": "sip:1001@10.0.0.9",
        "to": "sip:agent@10.0.0.4",
        "sip_headers": {"X-Customer": "7"},
    }
    assert places.kept == 1
    for model in (CallSession, PbxSession):
        assert SECRET not in str([row async for row in model.objects.values()])
    assert query["ticket"] not in str([row async for row in PbxSession.objects.values()])
    assert SECRET not in caplog.text


async def test_rules_choose_where_no_route_does_and_the_version_stays(pbx):
    """What was chosen at the first question answers when audio comes, whatever is published meanwhile."""
    vip = await sync_to_async(publish_profile)("vip")
    await Rule.objects.acreate(name="vip", caller="1001", profile=vip)
    await ask(pbx)
    session = await session_of()
    assert (session.profile, session.version, session.call.profile_id) == ("vip", 1, vip.pk)
    await sync_to_async(edit_profiles)(greeting="Hello")
    answer = await ask(pbx)
    arrival = await arrive(query_of(answer))
    request = arrival.described(Request())
    assert (request.profile, request.version) == ("vip", 1)
    chosen = await choosing.choose(request.profile, version=request.version)
    assert (chosen.number, chosen.version_id) == (1, session.call.version_id)
    choosing.close()


async def test_a_repeated_question_gets_the_same_answer(pbx):
    answer = await ask(pbx)
    assert await ask(pbx) == answer
    assert (await session_of()).bridges == 1
    assert await CallSession.objects.acount() == 1
    assert places.kept == 1
    await connect(answer)
    await decide(Decision.HANG_UP)
    over = await ask(pbx, variables=returned(1))
    assert over == await ask(pbx, variables=returned(1)) == {"type": "hangup"}


async def test_a_ticket_opens_one_connection_in_time(pbx):
    answer = await ask(pbx)
    assert await connect({"create_room_uri": "ws://x?ticket=another"}) is None
    session = await connect(answer)
    assert session.caller == "1001"
    assert await connect(answer) is None
    again = await ask(pbx, variables=returned(1))
    await PbxSession.objects.aupdate(expires_at=timezone.now() - timedelta(seconds=1))
    assert await connect(again) is None


async def test_the_conversation_decides_what_follows(pbx):
    sales = await Destination.objects.acreate(pbx=pbx[0], name="sales", target="sip:200@pbx")
    support = await Destination.objects.acreate(pbx=pbx[0], name="q", target="support", kind="queue")
    await connect(await ask(pbx))
    assert await decide(Decision.TRANSFER, sales)
    assert await ask(pbx, variables=returned(1)) == {
        "type": "transfer", "target": "sip:200@pbx", "wait_for_result": True,
    }  # fmt: skip
    assert not await decide(Decision.HANG_UP)  # nobody talks
    back = await ask(pbx, {"type": "transfer_result", "status": "not_connected"})
    assert query_of(back)["return_bridge"] == "2"
    session = await connect(back)
    assert session.why == "nobody answered at sales"
    await decide(Decision.QUEUE, support)
    queued = await ask(pbx, variables=returned(2))
    assert (queued["type"], queued["target"], queued["return_target"]) == ("queue", "support", "voiceagent")
    again = await ask(pbx)  # a queue's end tells nothing
    assert query_of(again)["return_bridge"] == "3"
    await connect(again)
    await decide(Decision.HANG_UP)
    assert await ask(pbx, variables=returned(3)) == {"type": "hangup"}


async def test_a_call_without_room_goes_elsewhere(pbx, monkeypatch):
    monkeypatch.setattr(this_process.load, "most", 1)
    assert (await ask(pbx))["type"] == "bridge"
    answer = await ask(pbx, session_id="second")
    assert answer["next"] == {"type": "hangup"}
    wav = await AsyncClient().get(urlsplit(answer["file"]).path)
    assert wav["Content-Type"] == "audio/wav"
    assert wav.content[:4] == b"RIFF"
    assert len(wav.content) > 8000
    assert await ask(pbx, {"type": "audio_complete"}, session_id="second") == {"type": "hangup"}
    call = await CallSession.objects.aget(room_id="second")
    assert (call.status, call.end_reason) == (CallStatus.FAILED, EndReason.OVERFLOW)
    assert "no room" in call.error
    assert admission.refusal({"client": ("127.0.0.1", 1), "query_string": b"", "headers": []}).status == 503


async def test_the_overflow_rings_and_then_speaks(pbx, monkeypatch):
    await Pbx.objects.aupdate(overflow_target="sip:100@pbx")
    pbxes.forget()  # in the two seconds that it would else take
    monkeypatch.setattr(this_process, "_state", State.DRAINING)
    answer = await ask(pbx)
    assert answer == {"type": "transfer", "target": "sip:100@pbx", "wait_for_result": True}
    assert await ask(pbx) == answer
    busy = await ask(pbx, {"type": "transfer_result", "status": "not_connected"})
    assert busy["type"] == "prompt"
    await Pbx.objects.aupdate(overflow_text=" ")
    pbxes.forget()
    assert await ask(pbx, {"type": "transfer_result", "status": "not_connected"}) == {"type": "hangup"}


async def test_without_a_profile_a_call_goes_elsewhere(pbx):
    await sync_to_async(PromptProfile.objects.update)(is_default=False, is_published=False)
    assert (await ask(pbx))["type"] == "prompt"
    assert (await CallSession.objects.aget()).error == "no profile is published"


async def test_no_audio_connection_is_no_silence(pbx):
    await ask(pbx)
    answer = await ask(pbx, variables={"return_from": "rwi"})
    assert answer["type"] == "prompt"
    assert places.kept == 0
    assert (await CallSession.objects.aget()).end_reason == EndReason.OVERFLOW


async def test_the_database_away_is_no_silence(pbx, monkeypatch):
    assert (await ask(pbx, session_id="first"))["type"] == "bridge"

    def away(*_args):
        raise OSError("away")

    monkeypatch.setattr(answering, "answer", away)
    await Pbx.objects.aupdate(overflow_target="sip:100@pbx")
    promised = query_of(await ask(pbx))["ticket"]  # before anybody knows
    assert await arrive({"ticket": promised}) is None
    assert (await ask(pbx, variables=returned(1)))["type"] == "prompt"  # as the PBX was known last
    assert await ask(pbx, {"type": "audio_complete"}) == {"type": "hangup"}
    pbxes.forget()
    assert (await ask(pbx, session_id="third"))["type"] == "prompt"
    response = await post("/rustpbx/ivr", "unknown", asked())  # perhaps it is a new one
    assert (response.status_code, response.json()) == (200, {"type": "hangup"})


@pytest.mark.parametrize("body", [b"", b"[]", b'{"session_id": null}'])
async def test_what_is_no_question_is_hung_up(pbx, body):
    response = await post("/rustpbx/ivr", pbx[1], body)
    assert (response.status_code, response.json()) == (200, {"type": "hangup"})


@pytest.mark.parametrize("path", ["/rustpbx/ivr", "/rustpbx/webhook"])
async def test_a_stranger_is_refused(pbx, path):
    for token in ("", "x", pbx[0].ivr_token_hash, "\udcff"[:0]):
        assert (await post(path, token, asked())).status_code == 401
    assert (await AsyncClient().get(path)).status_code == 405
    assert not await PbxSession.objects.aexists()


async def test_strangers_cost_neither_the_database_nor_the_reading_of_what_they_send(
    pbx, monkeypatch, caplog
):
    await ask(pbx)
    monkeypatch.setattr(ending, "_end_of_call", None)
    monkeypatch.setattr(pbxes, "STRANGE_S", 60)
    read_at = pbxes._read_at
    for token in ("x", "y"):
        assert (await post("/rustpbx/webhook", token, "[[]]")).status_code == 401
        assert (await post("/rustpbx/ivr", token, asked())).status_code == 401
    assert pbxes._read_at == read_at
    monkeypatch.setattr(arriving, "_with_ticket", None)
    for ticket in ("", "x", "x:y", f"{'0' * 64}:{'A' * 43}"):
        assert await arriving.arrive({"ticket": ticket}) is None
    assert not [record for record in caplog.records if "could not be looked up" in record.message]


async def test_beginnings_and_ends_of_steps_say_nothing(pbx):
    await ask(pbx)
    for path in ("start", "end"):
        response = await post(
            f"/rustpbx/ivr/{path}", "", b'{"reason": "transfer", "detail": "ws://x?ticket=y"}'
        )
        assert (response.status_code, response.json()) == (200, {})
    assert (await session_of()).state == SessionState.BRIDGING


async def test_what_could_not_be_begun_is_answered_anew(pbx):
    await ask(pbx)
    response = await post("/rustpbx/ivr/fail", pbx[1], asked({"type": "fail", "reason": "no bridge"}))
    assert response.json()["type"] == "prompt"
    await ask(pbx, session_id="second")
    # The path says it, too.
    response = await post("/rustpbx/ivr/fail", pbx[1], asked(session_id="second"))
    assert response.json()["type"] == "prompt"


async def test_a_call_with_a_name_too_long_to_be_helped_by_it_goes_elsewhere(pbx):
    for name in ("x" * 300 + "a", "x" * 300 + "b"):
        assert (await ask(pbx, session_id=name))["type"] == "prompt"
        assert (await ask(pbx, {"type": "audio_complete"}, session_id=name)) == {"type": "hangup"}
    assert await PbxSession.objects.acount() == 2
    assert (await ask(pbx, session_id="x" * 255))["type"] == "bridge"


# --- The first question is answered before it is stored --------------------------------------------------


@pytest.fixture
async def held(pbx, monkeypatch):
    """What is stored of new calls waits until this is set."""
    await ask(pbx, session_id="before")  # so that the PBX is known
    go, answer = threading.Event(), answering.answer
    monkeypatch.setattr(answering, "answer", lambda question: (go.wait(10), answer(question))[1])
    yield go
    go.set()


async def question(pbx, **fields):
    headers = {"Authorization": f"Bearer {pbx[1]}"}
    body = asked(START, **fields)
    response = await AsyncClient().post(
        "/rustpbx/ivr", body, content_type="application/json", headers=headers
    )
    return response.json()


async def test_a_new_call_waits_for_no_database_and_its_audio_for_what_is_stored(pbx, held):
    answer = await question(pbx)
    assert await PbxSession.objects.acount() == 1
    assert places.kept == 2
    coming = asyncio.create_task(arrive({"ticket": query_of(answer)["ticket"]}))
    assert await question(pbx) == answer
    held.set()
    arrival = await coming
    assert arrival.told["room_id"] == "a1b2@10.0.0.4"
    await first.stored()
    assert await recorder().flush(5)
    assert await CallSession.objects.filter(pk=arrival.told["call_id"]).aexists()
    assert await PbxSession.objects.acount() == 2
    assert await arrive({"ticket": query_of(answer)["ticket"]}) is None


async def test_a_pbx_that_has_just_been_entered_is_known(pbx):
    await ask(pbx)
    pbxes._looked_for_at -= pbxes.STRANGE_S  # the last stranger was here a while ago
    await database.run(pbxes.read)  # as once a second
    another = await sync_to_async(make_pbx)(name="another")
    assert (await ask(another))["type"] == "bridge"


async def test_the_end_of_a_call_waits_for_its_beginning(pbx, held):
    await question(pbx)
    ended = asyncio.create_task(post("/rustpbx/webhook", pbx[1], hung_up()))
    await asyncio.sleep(0)
    held.set()
    assert (await ended).status_code == 200
    session = await PbxSession.objects.aget(session_id="a1b2@10.0.0.4")
    assert session.state == "ended"


async def test_what_another_process_has_promised_is_waited_for(pbx):
    with_ticket = query_of(await ask(pbx))["ticket"]
    stored = await PbxSession.objects.aget()
    await stored.adelete()
    coming = asyncio.create_task(arrive({"ticket": with_ticket}))
    await asyncio.sleep(arriving.AGAIN_S)
    stored.pk = None
    await stored.asave()
    assert (await coming).told["room_id"] == stored.session_id


async def test_who_is_back_on_another_node_is_told_what_is_stored(pbx):
    """It cannot know that the call is no new one, as after a queue nothing says so."""
    answer = await ask(pbx)
    assert await connect(answer)
    await decide(Decision.QUEUE, Destination(name="sales", target="queue-1"))
    assert (await ask(pbx, variables=returned(1)))["type"] == "queue"
    memory.clear()
    assert await ask(pbx) == answer  # its ticket is spent
    assert await arrive({"ticket": query_of(answer)["ticket"]}) is None
    again = await ask(pbx, variables=returned(1))
    assert (await arrive({"ticket": query_of(again)["ticket"]})).why_back.startswith(
        "the caller is back from"
    )


# --- Its end ----------------------------------------------------------------------------------------------


def hung_up(call="a1b2@10.0.0.4", **event):
    told = {"hangup_by": "caller", "reason": "BYE", **event}
    return json.dumps({"event_type": "call_hangup", "call_id": call, "event": told}).encode()


async def test_the_end_is_told_by_the_webhook(pbx):
    await ask(pbx)
    assert (await post("/rustpbx/webhook", pbx[1], hung_up())).status_code == 200
    session = await session_of()
    assert (session.state, session.hung_up_by, session.end_reason) == ("ended", "caller", "BYE")
    assert (session.call.status, session.call.end_reason) == ("completed", "disconnect")
    assert places.kept == 0
    assert await ask(pbx, variables=returned(1)) == {"type": "hangup"}
    before = session.ended_at
    await post("/rustpbx/webhook", pbx[1], hung_up(hangup_by="system"))
    assert (await session_of()).ended_at == before


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b'{"event_type": "call_hangup", "event": 5}', hung_up("unknown"), hung_up(reason=None)],
)
async def test_other_tellings_are_taken_and_ignored(pbx, body):
    assert (await post("/rustpbx/webhook", pbx[1], body)).status_code == 200


# --- Who is left in silence -------------------------------------------------------------------------------


async def test_callers_left_behind_are_found_once(pbx):
    answer = await ask(pbx)
    later = timezone.now() + timedelta(seconds=10)
    stranded = sync_to_async(lambda: list(PbxSession.objects.stranded(later)))
    rescue = sync_to_async(PbxSession.objects.rescue)
    (session,) = await stranded()
    assert await rescue(session, later)
    assert not await rescue(session, later)
    assert await stranded() == []
    assert await rescue(session, later + timedelta(seconds=5))
    await PbxSession.objects.aupdate(rescued_at=None)
    await connect(answer)
    assert await stranded() == []


@pytest.mark.parametrize(
    ("left", "is_stranded"),
    [
        (("talking", 40, ""), True),
        (("talking", 40, "crash"), True),
        (("talking", 40, "shutdown"), True),  # but the PBX's question was not answered any more
        (("talking", 40, "transferred"), True),
        (("talking", 40, "disconnect"), False),
        (("leaving", 40, "hung_up"), True),
        (("leaving", 5, "hung_up"), False),
        (("speaking", 100, "overflow"), True),
        (("speaking", 40, "overflow"), False),
        (("transferring", 100, "transferred"), False),  # they may be talking there
        (("overflowing", 100, "overflow"), False),
        (("queued", 100, "transferred"), False),
        (("ended", 100, "hung_up"), False),
    ],
)
def test_the_calls_of_a_process_that_died_are_left_behind(pbx, make_call, left, is_stranded):
    from calls.models import Node

    state, told_s, reason = left

    Node.objects.renew(node := node_row())
    call = make_call()
    now = timezone.now()
    if reason:
        CallSession.objects.filter(pk=call.pk).update(status="completed", end_reason=reason)
    session = PbxSession.objects.create(
        pbx=pbx[0], session_id="s", call=call, state=state, bridges=1, node_id=node.id,
        told_at=now - timedelta(seconds=told_s),
    )  # fmt: skip
    assert list(PbxSession.objects.stranded(now)) == []
    Node.objects.filter(pk=node.id).update(seen_at=now - timedelta(seconds=31))
    assert list(PbxSession.objects.stranded(now)) == [session] * is_stranded
    Node.objects.filter(pk=node.id).update(seen_at=now - timedelta(seconds=2), state="stopped")
    assert list(PbxSession.objects.stranded(now)) == []  # a question may be on its way


async def test_a_call_that_was_handed_on_keeps_its_own_place(pbx, monkeypatch):
    monkeypatch.setattr(this_process.load, "most", 1)
    assert places.keep(f"pbx:{pbx[0].pk}:s", 60, None)  # as registry.park does
    assert (await ask(pbx, session_id="other"))["type"] != "bridge"
    assert (await ask(pbx, session_id="s"))["type"] == "bridge"


def test_places():
    places = Places()
    assert places.keep("a", 60, 1)
    assert places.keep("a", 60, 1)
    assert not places.keep("b", 60, 1)
    places.release("a")
    assert places.keep("b", -1, 1)
    assert (places.kept, places.keep("c", 60, None)) == (0, True)


def test_the_ivr_is_asked_without_a_redirect(client, settings, pbx):
    settings.SECURE_SSL_REDIRECT = True
    assert client.get(reverse("rustpbx-say", args=["x"])).status_code == 404
