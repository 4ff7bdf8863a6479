"""What people tell a call on its page."""

import pytest
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer

from calls.models import CallEvent, CallSession, Destination, EventKind, Node, Pbx, PbxSession
from calls.pages import live
from calls.process import this_process
from tests.conftest import end_row, event_row, node_row, publish_profile

pytestmark = pytest.mark.django_db


@pytest.fixture
def node():
    """This process."""
    row = node_row(id=this_process.boot)
    Node.objects.renew(row)
    return row


def told():
    """The command that this process was told."""
    layer = get_channel_layer()
    return async_to_sync(layer.receive)(f"commands.{this_process.boot}")


def page(client, call):
    return client.get(call.get_absolute_url()).content.decode()


def test_a_command_goes_to_the_process_that_runs_the_call(client, admin, make_call, node):
    call = make_call(node_id=node.id)
    client.force_login(admin)
    answer = client.post(f"{call.get_absolute_url()}command/", {"verb": "say", "argument": " Hello. "})
    assert answer.headers["Location"] == f"{call.get_absolute_url()}#live"
    command = told()
    assert {name: command[name] for name in ("call_id", "verb", "argument", "by", "reply")} == {
        "call_id": str(call.pk), "verb": "say", "argument": "Hello.", "by": "admin", "reply": "",
    }  # fmt: skip


def test_what_cannot_be_told_is_said_on_the_page(client, admin, make_call, node, settings):
    client.force_login(admin)
    other = node_row(name="other:1")
    Node.objects.renew(other)
    call = make_call(node_id=other.id)
    client.post(f"{call.get_absolute_url()}command/", {"verb": "mute"})
    assert "The call runs in another server, other:1." in page(client, call)
    orphan = make_call()
    client.post(f"{orphan.get_absolute_url()}command/", {"verb": "mute"})
    assert "The server that ran this call is gone" in page(client, orphan)
    assert client.post(f"{call.get_absolute_url()}command/", {"verb": "explode"}).status_code == 400
    CallSession.objects.finish(end_row(call.pk))
    answer = client.post(f"{call.get_absolute_url()}command/", {"verb": "mute"}, follow=True)
    assert "The call has ended." in [str(message) for message in answer.context["messages"]]


def test_who_may_only_see_calls_sees_what_is_said_and_no_buttons(client, analyst, admin, make_call, node):
    call = make_call(node_id=node.id, said=[("caller", "Is <b>this</b> live?")])
    client.force_login(analyst)
    shown = page(client, call)
    assert "Is &lt;b&gt;this&lt;/b&gt; live?" in shown
    assert "Mute the agent" not in shown
    assert client.post(f"{call.get_absolute_url()}command/", {"verb": "mute"}).status_code == 403
    client.force_login(admin)
    assert "Mute the agent" in page(client, call)
    CallSession.objects.finish(end_row(call.pk))
    assert "Mute the agent" not in page(client, call)
    assert "The call is over." in client.get(f"{call.get_absolute_url()}live/").content.decode()


def test_it_is_transferred_to_where_its_pbx_transfers(client, admin, make_call, node):
    call = make_call(node_id=node.id)
    client.force_login(admin)
    assert "Transfer to" not in page(client, call)
    pbx = Pbx.objects.create(name="main", agent_url="http://127.0.0.1:9")
    Destination.objects.create(pbx=pbx, name="sales", target="sip:sales@example.org")
    PbxSession.objects.create(pbx=pbx, session_id="s", call=call)
    assert '<option value="sales">sales</option>' in page(client, call)


def test_the_prompt_offered_is_the_one_in_force(make_call):
    call = make_call(profile=publish_profile("sales", system_prompt="Sell."))
    assert live.prompt_of(call) == ("Sell.", False)
    told = {"verb": "prompt", "argument": "Give."}
    row = event_row(call.id, "", kind=EventKind.COMMAND, severity="info", detail=told)
    CallEvent.objects.record(
        [row, event_row(call.id, "", ms=9, kind=EventKind.COMMAND, detail={"verb": "mute"})]
    )
    assert live.prompt_of(call) == ("Give.", False)


def test_a_refused_prompt_is_not_lost_and_not_said_to_be_in_force(client, admin, make_call, node):
    call = make_call(node_id=node.id)
    client.force_login(admin)
    assert "This one was refused" not in page(client, call)
    row = event_row(
        call.id,
        "",
        kind=EventKind.COMMAND,
        severity="warning",
        detail={"verb": "prompt", "argument": "{{ x }}"},
    )
    CallEvent.objects.record([row])
    shown = page(client, call)
    assert "{{ x }}</textarea>" in shown
    assert "This one was refused" in shown
