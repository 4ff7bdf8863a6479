"""Trying the agent out in a browser: who may, with which values, by which messages."""

# ruff: noqa: F811  the fixtures of another module are imported by their names

import asyncio
import json
from datetime import timedelta

import pytest
from django.test import Client as Visitor
from django.utils import timezone

from calls import events
from calls.consumers import BrowserConsumer
from calls.gateway import trying
from calls.models import CallSession, PromptProfile, TrialTicket
from calls.models.trial import VALID_FOR
from calls.process import this_process
from calls.rustpbx import browser
from calls.rustpbx.messages import Disconnect, ProtocolError, Typed
from tests.test_connection import (  # noqa: F401  the fixtures
    FRAME,
    dial,
    finished,
    profile,
    providers,
    stored,
    stored_events,
)
from tests.test_verbs import Model, asked, hear  # noqa: F401  the fixtures

pytestmark = pytest.mark.django_db(transaction=True)

try_socket = BrowserConsumer.as_asgi()


@pytest.fixture
def session(analyst):
    visitor = Visitor()
    visitor.force_login(analyst)
    return visitor.session.session_key


@pytest.fixture
def browse(dial, session):
    """Opens the socket as the page of somebody who is logged in does."""

    async def connect(query=""):
        async def serve(scope, receive, send):
            headers = [
                (b"host", b"localhost:8765"),
                (b"origin", b"http://localhost:8765"),
                (b"cookie", f"sessionid={session}".encode()),
            ]
            await try_socket({**scope, "headers": headers}, receive, send)

        return await dial(query, serve)

    return connect


def ticket_of(user, profile, **changes):
    for name, value in changes.items():
        setattr(profile, name, value)
    return TrialTicket.objects.issue(user.pk, profile, profile.configuration())


class TestTickets:
    def test_a_ticket_is_good_for_one_call_of_its_user(self, analyst, admin, profile):
        ticket = ticket_of(analyst, profile, greeting="Unsaved.")
        assert TrialTicket.objects.redeem(ticket, admin.pk) is None
        assert TrialTicket.objects.redeem(f"{ticket}x", analyst.pk) is None
        found = TrialTicket.objects.redeem(ticket, analyst.pk)
        assert (found.configuration["greeting"], found.profile, found.slug) == (
            "Unsaved.",
            profile,
            "default",
        )
        assert TrialTicket.objects.redeem(ticket, analyst.pk) is None

    def test_it_is_good_for_ten_minutes_and_then_swept_away(self, analyst, profile):
        ticket = ticket_of(analyst, profile)
        TrialTicket.objects.update(expires_at=timezone.now())
        assert timedelta(minutes=10) == VALID_FOR
        assert TrialTicket.objects.redeem(ticket, analyst.pk) is None
        ticket_of(analyst, profile)
        assert TrialTicket.objects.count() == 1


class TestACall:
    async def test_by_voice_with_the_profile_that_is_named(self, browse, profile):
        client = await browse("profile=default")
        told = await client.until("configured")
        await client.send_to(bytes_data=FRAME)
        await client.say(type="hang_up")
        assert await client.closed() == 1000
        call = await finished()
        assert str(call.pk) == told["call_id"]
        assert (call.is_test, call.caller, call.client_generation) == (True, "analyst", "browser")
        assert (call.status, call.end_reason) == ("completed", "disconnect")
        assert call.version_id is not None
        assert call.draft is None
        assert set(call.in_force) == {"stt", "llm", "tts"}

    async def test_by_typing_with_values_that_are_not_saved(self, browse, profile, asked, analyst):
        """No ears and no voice: neither is built, and a turn is over when it is sent."""
        ticket = await asyncio.to_thread(
            ticket_of, analyst, profile, greeting="Hi!", llm_provider="model", stt_provider="gone",
            tts_provider="gone",
        )  # fmt: skip
        client = await browse(f"ticket={ticket}&mode=type&profile=other")
        await client.until("configured")
        greeting = await client.until("turn")
        assert (greeting["speaker"], greeting["text"], greeting["index"]) == ("agent", "Hi!", 0)
        await client.say(type="say", text=" Are you <open>? ")
        question = await client.until("turn")
        while question["speaker"] != "caller":  # the greeting's end
            question = await client.until("turn")
        assert question["text"] == "Are you <open>?"
        assert (await asyncio.wait_for(asked.get(), 10))[-1] == "Are you <open>?"
        answer = await client.until("turn")
        while answer["speaker"] != "agent":
            answer = await client.until("turn")
        assert answer["text"] == "Yes."
        assert answer["total_ms"] >= 0
        await client.say(type="hang_up")
        assert await client.closed() == 1000
        call = await finished()
        assert (call.is_test, call.version_id, call.profile_id) == (True, None, profile.pk)
        assert (call.draft["greeting"], call.draft["stt_provider"]) == ("Hi!", "gone")
        assert set(call.in_force) == {"llm"}
        assert call.error_count == 0
        stored = await asyncio.to_thread(PromptProfile.objects.get)
        assert (stored.greeting, stored.stt_provider) == ("Hello", "test")

    async def test_what_it_does_not_understand_is_told_and_the_call_goes_on(self, browse, profile):
        client = await browse("mode=type")
        await client.until("configured")
        for text in ("{", "[]", '{"type":"say"}', '{"type":"say","text":" "}', '{"type":"configure"}'):
            await client.send_to(text_data=text)
            assert (await client.until("error"))["code"] == 400
        await client.say(type="say", text="a\0b")
        assert (await client.until("error"))["code"] == 422
        await client.say(type="hang_up")
        assert await client.closed() == 1000

    async def test_values_of_a_profile_that_was_never_saved(self, browse, profile, analyst):
        ticket = await asyncio.to_thread(ticket_of, analyst, PromptProfile(name="New"), system_prompt="Be.")
        client = await browse(f"ticket={ticket}&mode=type")
        await client.until("configured")
        await client.say(type="hang_up")
        await client.closed()
        call = await finished()
        assert (call.version_id, call.profile_id, call.draft["system_prompt"]) == (None, None, "Be.")


class TestNoCall:
    async def test_a_server_that_is_full_says_so_and_counts_it(self, browse, profile):
        this_process.load.most = 1
        first = await browse()
        await first.until("configured")
        assert this_process.load.calls == 1
        second = await browse()
        assert (await second.until("error"))["message"] == trying.NO_ROOM
        assert await second.closed() == 1000
        assert this_process.load.refused == 1
        await first.say(type="hang_up")
        await first.closed()
        assert await asyncio.to_thread(CallSession.objects.count) == 0 or (await finished()).is_test

    async def test_a_ticket_that_is_spent_says_so(self, browse, profile, analyst):
        ticket = await asyncio.to_thread(ticket_of, analyst, profile)
        first = await browse(f"ticket={ticket}")
        await first.until("configured")
        second = await browse(f"ticket={ticket}")
        assert (await second.until("error"))["message"] == trying.EXPIRED
        assert await second.closed() == 1000
        await first.say(type="hang_up")
        await first.closed()
        await finished()


class TestWhoAsks:
    def scope(self, origin, host="agent.test", client="192.0.2.1", **more):
        headers = [(b"origin", origin.encode()), (b"host", host.encode())]
        headers += [(name.replace("_", "-").encode(), value.encode()) for name, value in more.items()]
        return {"client": [client, 1], "headers": headers}

    def test_the_page_has_the_very_address_that_is_asked(self, settings):
        assert trying._is_from_our_page(self.scope("http://agent.test"))
        assert trying._is_from_our_page(self.scope("http://Agent.test:8765", "agent.test:8765"))
        assert not trying._is_from_our_page(self.scope("https://agent.test"))
        assert not trying._is_from_our_page(self.scope("http://agent.test:8765"))
        assert not trying._is_from_our_page(self.scope("", ""))
        assert not trying._is_from_our_page(self.scope("null", "null"))
        settings.CSRF_TRUSTED_ORIGINS = ["https://agent.test"]
        assert trying._is_from_our_page(self.scope("https://agent.test", "127.0.0.1:8765"))

    def test_a_trusted_proxy_says_that_it_is_https(self, settings):
        https = {"x_forwarded_proto": "https"}
        assert not trying._is_from_our_page(self.scope("https://agent.test", **https))
        settings.TRUSTED_PROXIES = [trying.proxies.ipaddress.ip_network("192.0.2.0/24")]
        assert trying._is_from_our_page(self.scope("https://agent.test", **https))
        assert not trying._is_from_our_page(self.scope("http://agent.test", **https))


class TestMessages:
    def test_what_a_browser_may_send(self):
        assert browser.decode_text('{"type":"hang_up"}') == Disconnect("")
        assert browser.decode_text('{"type":"say","text":" Hi "}') == Typed("Hi")
        long = json.dumps({"type": "say", "text": "a" * 2001})
        for text, code in ((long, 400), ("x" * 9000, 413), ('{"type":"say","text":"\\ud800"}', 422)):
            with pytest.raises(ProtocolError) as error:
                browser.decode_text(text)
            assert error.value.code == code

    def test_it_is_told_what_is_said_and_what_fails(self):
        turn = events.Turn("agent", 10, index=2, text="Yes.", total_ms=500, interrupted=True)
        told = browser.message_of(turn)
        assert (told.index, told.text, told.total_ms, told.interrupted) == (2, "Yes.", 500, True)
        assert browser.message_of(events.Heard("so far", False, "en")).text == "so far"
        assert browser.message_of(events.Heard("all", True, "en")) is None  # its turn says so
        assert browser.message_of(events.Interrupted("Yes", 2)).type == "interrupted"
        assert browser.message_of(events.Failed("tts", "no voice")).text == "tts: no voice"
        assert browser.message_of(events.Measured("llm", 1)) is None
