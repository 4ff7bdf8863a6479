import re
from datetime import UTC, datetime, timedelta
from gzip import decompress
from html import escape, unescape
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.http import QueryDict
from django.test import Client, RequestFactory
from django.urls import reverse
from django.utils import timezone
from django.views.defaults import server_error

from calls.models import CallEvent, CallSession, Node, PromptProfile, Turn
from calls.models.query import parse
from calls.pages import finding
from calls.pages.excerpt import excerpt
from calls.templatetags import call_format, call_timing
from tests.conftest import PASSWORD, STARTED_AT, end_row, event_row, node_row, turn_row

pytestmark = pytest.mark.django_db

CALLS = "/calls/"
HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)>'


@pytest.fixture
def browse(client, analyst):
    """Get a page as an analyst."""
    client.force_login(analyst)

    def get(path=CALLS, **query):
        return client.get(path, query)

    return get


def text_of(response):
    """The page's text without tags, in single spaces."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def listed(response):
    """The callers listed, in order."""
    return [call.caller for call in response.context["page"]]


def link(response, rel):
    """Where the page's link to its neighbour goes."""
    return unescape(re.search(rf'rel="{rel}" href="([^"]*)"', response.content.decode())[1])


class TestWhoMayLook:
    def pages(self, make_call):
        return [CALLS, make_call().get_absolute_url()]

    def test_nobody_gets_the_login_page_and_comes_back(self, client, analyst, make_call):
        for path in self.pages(make_call):
            response = client.get(path)
            assert response.status_code == 302
            assert response["Location"] == f"/login/?next={path}"
            login = {"username": "analyst", "password": PASSWORD}
            assert client.post(response["Location"], login)["Location"] == path
            client.logout()

    def test_an_outsider_is_told_whom_to_ask(self, client, outsider, make_call):
        client.force_login(outsider)
        for path in self.pages(make_call):
            response = client.get(path)
            assert response.status_code == 403
            assert "Ask an administrator" in text_of(response)
            assert "outsider" in text_of(response)

    @pytest.mark.parametrize("name", ["admin", "analyst"])
    def test_admins_and_analysts_see_calls(self, client, make_call, request, name):
        client.force_login(request.getfixturevalue(name))
        assert [client.get(path).status_code for path in self.pages(make_call)] == [200, 200]

    def test_pages_only_read(self, client, analyst, make_call):
        client.force_login(analyst)
        assert [client.post(path).status_code for path in self.pages(make_call)] == [405, 405]

    def test_the_root_leads_to_the_calls(self, client, analyst):
        client.force_login(analyst)
        assert client.get("/")["Location"] == CALLS

    def test_the_root_leads_who_may_only_administrate_to_the_admin(self, client):
        client.force_login(User.objects.create_user("clerk", is_staff=True))
        assert client.get("/")["Location"] == "/admin/"

    def test_a_wrong_password_is_explained(self, client, analyst):
        response = client.post("/login/", {"username": "analyst", "password": "guess"})
        assert "Please enter a correct username and password" in text_of(response)

    @pytest.mark.parametrize("path", ["/", "/login/"])
    def test_a_stranger_is_greeted(self, client, path):
        """What this is comes first; nobody is told of a page he did not ask for."""
        response = client.get(path, follow=True)
        assert "answers RustPBX's calls" in text_of(response)
        assert "page you asked for" not in text_of(response)

    @pytest.mark.parametrize("path", [CALLS, "/admin/"])
    def test_whoever_asked_for_a_page_is_told_that_it_comes(self, client, path):
        assert "The page you asked for" in text_of(client.get(path, follow=True))

    @pytest.mark.parametrize("next_page", ["/", "https://elsewhere.example/"])
    def test_a_foreign_page_is_not_promised(self, client, next_page):
        assert "page you asked for" not in text_of(client.get("/login/", {"next": next_page}))

    def test_the_first_user_is_explained_on_a_laptop_only(self, client, settings):
        assert "manage.py createsuperuser" in text_of(client.get("/login/"))
        User.objects.create_superuser("admin")
        assert "manage.py changepassword admin" in text_of(client.get("/login/"))
        settings.PRODUCTION = True
        assert "manage.py" not in text_of(client.get("/login/"))

    def test_logging_out(self, client, analyst):
        client.force_login(analyst)
        assert client.post("/logout/")["Location"] == "/login/"
        assert client.get(CALLS).status_code == 302


class TestOnTheWay:
    """What caches and the network make of pages."""

    PATHS = (CALLS, f"{CALLS}?q=tea", "/nothing-here/", "/admin/", "/admin/calls/promptprofile/", "/login/")

    def test_pages_of_people_who_are_logged_in_are_kept_nowhere(self, client, admin, make_call):
        client.force_login(admin)
        for path in (*self.PATHS, make_call().get_absolute_url()):
            kept = client.get(path)["Cache-Control"]
            assert "no-store" in kept, path
            assert "private" in kept, path

    def test_also_those_that_are_refused(self, client, outsider):
        client.force_login(outsider)
        assert "no-store" in client.get(CALLS)["Cache-Control"]

    def test_they_are_compressed_and_no_two_alike_in_length(self, browse, make_call, client):
        """The same page differs in length each time: nothing can be guessed from that (BREACH)."""
        make_call(said=[("caller", "tea")] * 50)
        page = {"HTTP_ACCEPT_ENCODING": "gzip"}
        sent = [client.get(CALLS, **page) for _ in range(20)]
        assert {each["Content-Encoding"] for each in sent} == {"gzip"}
        assert len(sent[0].content) < len(browse().content) / 2
        assert len({len(each.content) for each in sent}) > 5
        assert b"Calls" in decompress(sent[0].content)


class TestNobodyAnswers:
    """Every page says so to those whom it concerns, while no profile is published."""

    PATHS = (CALLS, "/nothing-here/", "/admin/", "/admin/calls/promptprofile/")
    WARNING = "Calls are refused: no profile is published."

    def test_admins_are_led_to_the_profiles(self, client, admin):
        client.force_login(admin)
        for path in self.PATHS:
            page = client.get(path)
            assert f"{self.WARNING} Publish one" in text_of(page), path
            assert '<a href="/admin/calls/promptprofile/">Publish one</a>' in page.content.decode()
        PromptProfile.objects.create(name="Draft", slug="draft", is_published=True)
        assert self.WARNING in text_of(client.get(CALLS)), "it has no version"
        PromptProfile.objects.get().publish()
        for path in self.PATHS:
            assert self.WARNING not in text_of(client.get(path)), path

    def test_analysts_are_told_whom_to_ask(self, browse):
        assert f"{self.WARNING} Ask an administrator" in text_of(browse())

    def test_others_are_not_bothered(self, client, outsider):
        assert self.WARNING not in text_of(client.get("/login/"))
        client.force_login(outsider)
        assert self.WARNING not in text_of(client.get(CALLS))


class TestList:
    def test_newest_first_with_their_facts(self, browse, make_call):
        PromptProfile.objects.ensure_default()
        old = make_call(caller="Ann", profile=PromptProfile.objects.get(), said=[("agent", "hi")])
        make_call(caller="Bob", started_at=STARTED_AT + timedelta(hours=1))
        ended_at = STARTED_AT + timedelta(seconds=65)
        CallSession.objects.finish(end_row(old.id, status="failed", end_reason="error", ended_at=ended_at))
        response = browse()
        assert listed(response) == ["Bob", "Ann"]
        for fact in ("2 calls", "Receptionist", "Failed", "1:05", "1 turn", "4 Mar 2026, 10:00", "Active"):
            assert fact in text_of(response)

    def test_without_calls_it_says_how_to_make_one(self, browse):
        text = text_of(browse())
        assert "No calls yet" in text
        assert "make call" in text
        assert 'server_url = "ws://testserver/ws/rustpbx"' in text

    def test_nothing_found_offers_to_clear_the_filters(self, browse, make_call):
        make_call()
        response = browse(q="zebra")
        assert "No call matches" in text_of(response)
        assert "Clear the filters" in text_of(response)
        assert "No calls yet" not in text_of(response)

    def test_filters(self, browse, make_call):
        PromptProfile.objects.ensure_default()
        profile = PromptProfile.objects.get()
        make_call(caller="Ann", profile=profile, said=[("caller", "I lost my umbrella")])
        make_call(caller="Bob", started_at=datetime(2026, 3, 6, tzinfo=UTC))
        assert listed(browse(q="UMBRELLA")) == ["Ann"]
        assert listed(browse(profile="default")) == ["Ann"]
        assert listed(browse(from_date="2026-03-05")) == ["Bob"]
        assert listed(browse(to_date="2026-03-05")) == ["Ann"]
        assert listed(browse(from_date="2026-03-04", to_date="2026-03-06")) == ["Bob", "Ann"]
        assert listed(browse(status="active")) == ["Bob", "Ann"]
        assert listed(browse(status="failed")) == []
        assert "1 call found" in text_of(browse(q="umbrella", profile="default", status="active"))

    def test_calls_with_errors_look_different_and_can_be_listed_alone(self, browse, make_call):
        PromptProfile.objects.ensure_default()
        make_call(caller="Ann")
        bob, cid = make_call(caller="Bob"), make_call(caller="Cid")
        CallEvent.objects.record(
            [
                event_row(bob.id), event_row(bob.id, kind="provider_failure"),
                event_row(cid.id), event_row(cid.id, kind="configuration", severity="info"),
                event_row(cid.id, kind="provider_failure", severity="warning"),
            ]
        )  # fmt: skip
        response = browse()
        assert {call.caller: call.error_count for call in response.context["page"]} == {
            "Ann": 0, "Bob": 2, "Cid": 1,
        }  # fmt: skip
        text = text_of(response)
        assert "⚠︎ 2 errors" in text
        assert "⚠︎ 1 error " in text
        assert text.count("⚠︎") == response.content.decode().count('class="has-errors"') == 2
        assert sorted(listed(browse(has_errors="on"))) == ["Bob", "Cid"]
        assert len(listed(browse(has_errors=""))) == 3

    def test_a_call_that_failed_as_a_whole_has_errors(self, browse, make_call):
        """Though nothing is counted in it."""
        failed = {"status": "failed", "end_reason": "error", "error": "the pipeline could not be built"}
        for caller, end in (("Ann", {}), ("Bob", failed)):
            CallSession.objects.finish(end_row(make_call(caller=caller).id, **end))
        assert listed(browse(has_errors="on")) == ["Bob"]
        assert browse().content.decode().count('class="has-errors"') == 1

    def test_filters_in_force_are_shown_and_can_be_taken_away_one_by_one(self, browse, make_call):
        PromptProfile.objects.ensure_default()
        query = {
            "q": "tea & cake", "from_date": "2026-03-04", "to_date": "2026-03-05", "profile": "default",
            "status": "active", "has_errors": "on",
        }  # fmt: skip
        response = browse(**query, page="3")
        chips = response.context["form"].chips
        assert [chip.label for chip in chips] == [
            "“tea & cake”", "from 4 Mar 2026", "to 5 Mar 2026", "Receptionist", "Active", "has errors",
        ]  # fmt: skip
        for chip, name in zip(chips, query, strict=True):
            left = {other: value for other, value in query.items() if other != name}
            assert QueryDict(chip.query).dict() == left
            assert f'href="/calls/?{escape(chip.query)}"' in response.content.decode()
        (only,) = browse(q="tea").context["form"].chips
        assert only.query == ""
        assert "Filters in force" not in browse().content.decode()

    def test_a_mistake_in_a_folded_filter_is_seen(self, browse):
        assert '<details class="more">' in browse(q="x" * 201).content.decode()
        assert '<details class="more wrong" open>' in browse(status="nope").content.decode()

    @pytest.mark.parametrize(
        ("back", "says"),
        [
            ({"seconds": 20}, "just now"),
            ({"seconds": 61}, "1 min ago"),
            ({"minutes": 59, "seconds": 59}, "59 min ago"),
            ({"hours": 2}, "today, 13:00"),
            ({"hours": 16}, "3 Mar 2026, 23:00"),
            ({"minutes": -5}, "today, 15:05"),
        ],
    )
    def test_recent_times_are_relative(self, monkeypatch, back, says):
        now = datetime(2026, 3, 4, 15, 0, tzinfo=UTC)
        monkeypatch.setattr(timezone, "now", lambda: now)
        assert call_format.ago(now - timedelta(**back)) == says

    def test_the_full_time_is_there_too_and_its_zone(self, browse, make_call):
        make_call()
        response = browse()
        html = response.content.decode()
        assert '<time datetime="2026-03-04T10:00:00+00:00" title="4 Mar 2026, 10:00:00 UTC">' in html
        assert text_of(response).count("Times are UTC") == 1

    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ({"from_date": "yesterday"}, "Enter a valid date"),
            ({"to_date": "9999-12-31"}, "Enter a day before 2200"),
            ({"from_date": "0001-01-01"}, "Enter a day from 2000 on"),
            ({"profile": "nope"}, "Select a valid choice"),
            ({"status": "nope"}, "Select a valid choice"),
            ({"q": "x" * 201}, "at most 200 characters"),
        ],
    )
    def test_a_wrong_filter_is_explained_and_nothing_half_filtered_shown(
        self, browse, make_call, query, says
    ):
        make_call(caller="Ann")
        response = browse(**query)
        assert listed(response) == []
        assert text_of(response).count(says) == 2, "at the filter, and instead of the calls"
        assert "A filter has a mistake" in text_of(response)
        assert "No call matches" not in text_of(response)
        assert "No calls yet" not in text_of(response)

    def test_days_in_the_wrong_order_are_explained(self, browse, make_call):
        make_call()
        response = browse(from_date="2026-03-05", to_date="2026-03-04")
        assert "To: This day is before the first one" in text_of(response)
        assert listed(response) == []

    def test_paging_keeps_the_filters(self, browse, make_call):
        for number in range(60):
            make_call(
                caller=f"c{number}",
                said=[("caller", "tea & cake")],
                started_at=STARTED_AT + timedelta(minutes=number // 3),
            )
        first = browse(q="tea & cake", status="active")
        assert "1–25 of 60 calls found" in text_of(first)
        second = browse(CALLS + link(first, "next"))
        third = browse(CALLS + link(second, "next"))
        pages = [listed(page) for page in (first, second, third)]
        assert [len(page) for page in pages] == [25, 25, 10]
        assert len({caller for page in pages for caller in page}) == 60
        assert second.context["form"].data["status"] == "active"
        assert "Calls from 4 Mar 2026, 10:11 back" in text_of(second)
        assert 'rel="next"' not in third.content.decode()
        assert listed(browse(CALLS + link(third, "prev"))) == pages[1]
        assert listed(browse(CALLS + link(second, "prev"))) == pages[0]

    def test_a_call_that_began_meanwhile_moves_no_page(self, browse, make_call):
        for number in range(26):
            make_call(caller=f"c{number}", started_at=STARTED_AT + timedelta(minutes=number))
        older = link(browse(), "next")
        make_call(caller="new", started_at=STARTED_AT + timedelta(hours=1))
        assert listed(browse(CALLS + older)) == ["c0"]
        # Newer than c0 there are a page and one more, in the order of the list.
        assert listed(browse(CALLS + link(browse(CALLS + older), "prev"))) == [
            f"c{n}" for n in range(25, 0, -1)
        ]

    @pytest.mark.parametrize("place", ["0", "x", "2026-03-04_1", "9999-01-01T00:00:00+00:00_" + "0" * 32])
    @pytest.mark.parametrize("name", ["before", "after", "page"])
    def test_a_place_that_is_none_is_the_newest_page(self, browse, make_call, name, place):
        make_call(caller="Ann")
        assert listed(browse(**{name: place})) == ["Ann"]

    @pytest.mark.parametrize(
        ("time", "seen"),
        [
            ("2199-12-31T23:59:59-23:59", True),  # PostgreSQL knows zones up to 15:59
            ("2026-03-04T10:00:01+00:00:00.5", True),
            ("9999-12-31T23:59:59-23:59", True),  # is in no calendar of UTC: the newest page
            ("0001-01-01T00:00:00+23:59", True),
            ("2026-03-04T15:30:00+05:45", False),
        ],
    )
    @pytest.mark.parametrize("name", ["before", "after"])
    def test_a_place_may_be_in_any_zone(self, browse, make_call, name, time, seen):
        make_call(caller="Ann", started_at=STARTED_AT)
        make_call(caller="Bob", started_at=STARTED_AT - timedelta(hours=1))
        page = listed(browse(**{name: f"{time}_{'f' * 32}"}))
        assert page == (["Bob"] if name == "before" and not seen else ["Ann", "Bob"])

    def test_calls_of_another_century_have_their_pages(self, browse, make_call):
        for number in range(60):
            make_call(caller=f"c{number}", started_at=datetime(1999, 1, 1, 0, number, tzinfo=UTC))
        second = browse(CALLS + link(browse(), "next"))
        assert listed(second) == [f"c{number}" for number in range(34, 9, -1)]
        assert listed(browse(CALLS + link(second, "next"))) == [f"c{number}" for number in range(9, -1, -1)]

    def test_before_all_calls_is_the_newest_page(self, browse, make_call):
        make_call(caller="Ann")
        assert listed(browse(before=f"2020-01-01T00:00:00+00:00_{uuid4().hex}")) == ["Ann"]

    @pytest.mark.parametrize(
        ("text", "query", "shown"),
        [
            ("It's the Größe, please", "GROSSE", "It's the [Größe,] please"),
            ("à l'hôtel d’Angelo", 'hotel "d angelo"', "à [l'hôtel] [d’Angelo]"),
            ("opening hours", "open*", "[opening] hours"),
            ("call 030 1234 now", "0301234 now", "call 030 1234 [now]"),
            ("電話番号は123です", "電話", "[電話番号は123です]"),
            (" ".join("abcdefghijklmnopqrstuvwxyz"), "h", "… c d e f g [h] i j k l m n o p q r s t …"),
        ],
    )
    def test_the_words_that_were_found_are_marked(self, text, query, shown):
        hit = excerpt(Turn(text=text), parse(query))
        words = " ".join(f"[{word.text}]" if word.is_found else word.text for word in hit.words)
        assert f"{'… ' * hit.cut_before}{words}{' …' * hit.cut_after}" == shown

    def test_many_calls_are_not_counted(self, browse, make_call, monkeypatch):
        monkeypatch.setattr(finding, "MOST_COUNTED", 26)
        for _ in range(27):
            make_call(said=[("caller", "tea")])
        assert "1–25 of more than 26 calls" in text_of(browse())
        assert "1–25 of more than 26 calls found" in text_of(browse(q="tea"))
        make_call(said=[("caller", "coffee")])
        assert "1 call found" in text_of(browse(q="coffee"))

    @pytest.mark.parametrize("looked_at", [1, 5, 30, 100])
    def test_wherever_looking_ends_the_same_is_found(self, browse, make_call, monkeypatch, looked_at):
        """By the index, call by call, and by one after the other."""
        monkeypatch.setattr(finding, "LOOKED_AT", looked_at)
        for number in range(60):
            word = "tea" if number % 2 else "coffee"
            make_call(
                caller=f"c{number}",
                said=[("caller", word)],
                started_at=STARTED_AT + timedelta(minutes=number),
            )
        first = browse(q="tea")
        second = browse(CALLS + link(first, "next"))
        assert listed(first) + listed(second) == [f"c{number}" for number in range(59, 0, -2)]
        assert listed(browse(CALLS + link(second, "prev"))) == listed(first)

    def test_what_was_found_is_shown_and_leads_there(self, browse, make_call):
        said = [
            ("agent", "Hello"),
            ("caller", "I lost my <b>umbrella</b> " + "and " * 30 + "more"),
            ("agent", "umbrella?"),
        ]
        call = make_call(said=said)
        make_call(caller="Umbrella Ltd")
        response = browse(q="UMBRÉLLA*")
        html = response.content.decode()
        assert f'href="{call.get_absolute_url()}?turn=1&amp;list=q%3D' in html
        assert '#turn-1"' in html
        assert "<mark>&lt;b&gt;umbrella&lt;/b&gt;</mark>" in html
        assert "I lost my <b>umbrella</b> and" in text_of(response)
        assert "more" not in text_of(response)
        assert html.count('class="hit"') == 1

    @pytest.mark.parametrize(
        ("query", "queries"),
        [({}, 10), ({"q": "tea"}, 12), ({"q": "nothing"}, 9), ({"q": "tea", "status": "active"}, 12)],
    )
    def test_more_calls_need_no_more_queries(
        self, browse, make_call, django_assert_num_queries, query, queries
    ):
        PromptProfile.objects.ensure_default()
        profile = PromptProfile.objects.get()
        for _ in range(3):
            for _ in range(15):
                make_call(profile=profile, said=[("caller", "tea")] * 3)
            with django_assert_num_queries(queries):
                browse(**query)

    def test_a_search_asks_the_index_once(self, browse, make_call, monkeypatch, django_assert_num_queries):
        monkeypatch.setattr(finding, "LOOKED_AT", 5)
        for _ in range(30):
            make_call()
        make_call(said=[("caller", "tea")], started_at=STARTED_AT - timedelta(days=1))
        with django_assert_num_queries(13):
            assert len(listed(browse(q="tea"))) == 1

    def test_a_node_that_takes_no_calls_is_told_of(self, browse):
        def node(name, **facts):
            Node.objects.renew(node_row(uuid4(), name=name, **facts))

        node("draining:1", state="draining", calls=3, capacity=9)
        node("full:2", calls=9, capacity=9, refused=12, refused_at=timezone.now() - timedelta(minutes=3))
        node("was-full:3", calls=1, capacity=9, refused=1, refused_at=timezone.now() - timedelta(minutes=3))
        node("was-full-yesterday:4", calls=1, refused=1, refused_at=timezone.now() - timedelta(days=1))
        node("fine:5", calls=1)
        node("stopped:6", calls=9, capacity=9, state="stopped")
        notices = [
            " ".join(re.sub(r"<[^>]+>", "", notice).split())
            for notice in re.findall(r'<p class="notice".*?</p>', browse().content.decode(), re.DOTALL)
        ]
        assert sorted(notices) == [
            "draining:1 is about to stop: 3 calls left, no new ones",
            "full:2 is full: 9 of 9 calls; 12 calls found no room, the last 3 min ago",
            "was-full:3; 1 call found no room, the last 3 min ago",
        ]


class TestCall:
    def test_it_shows_everything_known(self, browse, make_call):
        PromptProfile.objects.ensure_default()
        profile = PromptProfile.objects.get()
        call = make_call(
            caller="Ann", callee="Sales", profile=profile,
            client_configs={"llm": {"model": "gpt-4o-mini"}}, metadata={"campaign": "spring"},
        )  # fmt: skip
        latency = {"total_ms": 812, "end_of_turn_ms": 310, "stt_ms": 120, "llm_ms": 98, "tts_ms": 205}
        Turn.objects.record(
            [
                turn_row(call.id, 0, "caller", "where is my order", language="en-GB"),
                turn_row(call.id, 1, "agent", "It is on its", interrupted=True, **latency),
            ]
        )
        CallSession.objects.answered_by(call.id, {"tts": {"provider": "local", "instead_of": "cartesia"}})
        failure = {"kind": "provider_failure", "provider": "llm/openai", "detail": {"attempt": 2}}
        CallEvent.objects.record(
            [
                event_row(call.id, "No answer", ms=1500, **failure),
                event_row(call.id, "No answer", ms=2500, **failure),
                event_row(call.id, "Refused", ms=2000, **failure),
            ]
        )
        CallSession.objects.finish(
            end_row(
                call.id, status="failed", end_reason="idle", ended_at=STARTED_AT + timedelta(seconds=4),
                audio_in_s=3.96, audio_out_s=1.5, error="gave up",
            )
        )  # fmt: skip
        text = text_of(browse(call.get_absolute_url()))
        for fact in (
            "Ann", "Sales", "Receptionist, version 1", "Failed", "What went wrong",
            "No audio came", "4 Mar 2026, 10:00:00 UTC",
            "0:04", "4.0 s in, 1.5 s out",
            "RustPBX of October 2025 at 127.0.0.1", "812 ms median, 812 ms worst",
            "where is my order", "0:00.0–0:00.9", "en-GB", "It is on its", "interrupted",
            "Answered after 812 ms", "heard 120 ms", "end of turn 190 ms", "model 98 ms", "voice 205 ms",
            "0:01.5", "No answer",
            "2× No answer language model, openai", "1× Refused language model, openai",
            '"attempt": 2', '"instead_of": "cartesia"', "gave up",
            '"model": "gpt-4o-mini"', '"campaign": "spring"',
            '"schema": 2', "interrupted turns: 1; errors: 3",
        ):  # fmt: skip
            assert fact in text, fact

    def test_what_failed_is_told_once_with_its_number(self, browse, make_call):
        call = make_call()
        CallEvent.objects.record(
            [
                event_row(call.id, "no answer", ms=9000, kind="provider_failure", provider="tts"),
                event_row(call.id, "no answer", ms=65_000, kind="provider_failure", provider="tts"),
                event_row(call.id, "no answer", ms=12_000, kind="provider_failure", provider="llm"),
                event_row(call.id, "no answer", ms=30_000, kind="provider_failure", provider="tts"),
                event_row(call.id, "too fast", ms=1000),
                event_row(
                    call.id, "the caller interrupted the agent", ms=1000, kind="interruption", severity="info"
                ),
            ]
        )
        response = browse(call.get_absolute_url())
        assert [(f.count, f.message, f.provider) for f in response.context["failures"]] == [
            (1, "too fast", ""), (3, "no answer", "tts"), (1, "no answer", "llm"),
        ]  # fmt: skip
        text = text_of(response)
        assert "1× too fast at 0:01.0" in text
        assert "3× no answer text-to-speech first at 0:09.0 , last at 1:05.0" in text
        assert "1× no answer language model at 0:12.0" in text
        html = response.content.decode()
        anchors = re.findall(r'href="#(event-\d+)"', html)
        assert anchors
        assert all(f'id="{anchor}"' in html for anchor in anchors)

    def test_of_many_different_failures_the_most_frequent_are_told(self, browse, make_call):
        call = make_call()
        messages = [*(f"error {n} {'x' * 1000}" for n in range(300)), "last", "last"]
        CallEvent.objects.record(event_row(call.id, message, ms=n) for n, message in enumerate(messages))
        response = browse(call.get_absolute_url())
        failures = response.context["failures"]
        assert [failure.first_ms for failure in failures] == [*range(19), 300]
        assert failures[-1].count == 2
        text = text_of(response)
        assert "and 281 more, which are among the events" in text
        (section,) = re.findall(
            r'<section class="failures.*?</section>', response.content.decode(), re.DOTALL
        )
        assert len(section) < 20_000

    def test_a_call_without_failures_says_nothing_of_them(self, browse, make_call):
        call = make_call(said=[("caller", "hi")])
        CallEvent.objects.record([event_row(call.id, "cut", ms=1000, kind="interruption", severity="info")])
        assert "What went wrong" not in text_of(browse(call.get_absolute_url()))

    def test_an_error_of_the_call_that_no_event_tells_of_is_shown(self, browse, make_call):
        call = make_call()
        CallSession.objects.filter(pk=call.pk).update(error="the pipeline crashed")
        text = text_of(browse(call.get_absolute_url()))
        assert "What went wrong The call failed with: the pipeline crashed" in text

    def test_the_wait_for_an_answer_is_drawn_by_its_parts(self):
        answered = Turn(total_ms=1000, stt_ms=200, llm_ms=300, tts_ms=100)
        drawn = call_timing.timing(answered, 4000)
        assert [(part.name, part.ms, part.x, part.width) for part in drawn.parts] == [
            ("stt", 200, 0, 50), ("wait", 400, 50, 100),
            ("llm", 300, 150, 75), ("tts", 100, 225, 25),
        ]  # fmt: skip
        answered.end_of_turn_ms = 550
        assert [part.ms for part in call_timing.timing(answered, 4000).parts] == [200, 350, 300, 100]
        assert not drawn.is_slow
        assert call_timing.timing(Turn(total_ms=1501), None).is_slow
        assert call_timing.timing(Turn(), 900) is None
        only_a_part = call_timing.timing(Turn(stt_ms=120), None)
        assert (only_a_part.whole_ms, [part.ms for part in only_a_part.parts]) == (None, [120])
        overlapping = call_timing.timing(Turn(total_ms=100, stt_ms=2500), 100)
        assert [(part.name, part.x + part.width) for part in overlapping.parts] == [("stt", 1000)]

    def test_a_slow_answer_says_so(self, browse, make_call):
        quick, slow = make_call(), make_call()
        Turn.objects.record([turn_row(quick.id, 0, "agent", "yes", total_ms=900)])
        Turn.objects.record([turn_row(slow.id, 0, "agent", "yes", total_ms=2900)])
        assert "Slow:" not in text_of(browse(quick.get_absolute_url()))
        assert "Slow: answered after 2900 ms" in text_of(browse(slow.get_absolute_url()))

    def test_a_call_that_just_began(self, browse, make_call):
        text = text_of(browse(make_call(caller="").get_absolute_url()))
        for fact in ("Unknown caller", "Nothing was said yet", "No errors", "0 so far", "Not yet"):
            assert fact in text
        for fact in ("Who spoke when", "0.0 s", "Not measured"):
            assert fact not in text

    def test_an_active_call_says_how_it_stands(self, browse, make_call):
        """What a call has at its end only is not told as if it were nothing."""
        call = make_call(caller="Ann", started_at=timezone.now() - timedelta(seconds=65))
        Turn.objects.record([turn_row(call.id, 0, "agent", "yes", total_ms=900), turn_row(call.id, 1)])
        text = text_of(browse(call.get_absolute_url()))
        assert re.search(r"Duration 1:0\d so far", text)
        assert "2 so far" in text
        assert "900 ms median" in text
        assert re.search(r"● Active 1:0\d –", text_of(browse()))

    def test_who_did_not_say_anything(self, browse, make_call):
        def turn(speaker, final=True):
            call = make_call()
            Turn.objects.record([turn_row(call.id, 0, speaker, "", final=final)])
            return text_of(browse(call.get_absolute_url()))

        assert "(nothing understood)" in turn("caller")
        assert "(nothing said)" in turn("agent")
        assert "(nothing understood)" not in turn("agent")
        assert "(nothing" not in turn("agent", final=False)

    def test_it_is_found_by_its_id_in_capital_letters(self, browse, make_call):
        call = make_call()
        assert browse(f"/calls/{str(call.id).upper()}/").context["call"] == call
        assert browse(f"/calls/{call.id.hex}/").context["call"] == call
        for other in (uuid4(), "0" * 31 + "-", "-" * 36, "g" * 32):
            assert browse(f"/calls/{other}/").status_code == 404

    def test_the_way_back_keeps_filters_and_page(self, browse, make_call):
        for number in range(30):
            make_call(caller=f"c{number}", said=[("caller", "tea & cake")])

        def back(response):
            return unescape(re.search(r'href="([^"]*)" data-leave', response.content.decode())[1])

        def opened(response):
            return unescape(re.search(r'href="(/calls/[^"]{36,})" data-row', response.content.decode())[1])

        assert back(browse(opened(browse()))) == "/calls/"
        first = browse(q="tea & cake", status="active", profile="")
        assert back(browse(opened(first))) == "/calls/?q=tea+%26+cake&status=active"
        second = browse(CALLS + link(first, "next"))
        there = back(browse(opened(second)))
        assert [call.id for call in browse(there).context["page"]] == [c.id for c in second.context["page"]]
        foreign = browse(f'{make_call().get_absolute_url()}?list=https%3A%2F%2Fevil.example%2F"%3E')
        assert back(foreign) == "/calls/", "only filters"

    def test_a_failure_leads_to_its_event_in_whichever_part(self, browse, make_call):
        call = make_call()
        events = [event_row(call.id, f"m{n}", kind="interruption", severity="info", ms=n) for n in range(450)]
        CallEvent.objects.record([*events, event_row(call.id, "No answer", ms=430)])
        first = browse(call.get_absolute_url())
        html = first.content.decode()
        assert 'id="event-430"' not in html
        href = unescape(re.search(r'at <a href="([^"]*)">', html)[1])
        assert href == "?event=430ms#event-430"
        there = browse(call.get_absolute_url() + href.partition("#")[0])
        assert 'id="event-430"' in there.content.decode()
        assert "401–451 of 451 events" in text_of(there)

    def test_of_few_events_a_failure_leads_to_the_same_page(self, browse, make_call):
        call = make_call()
        CallEvent.objects.record([event_row(call.id, ms=430)])
        assert 'at <a href="#event-430">' in browse(call.get_absolute_url()).content.decode()

    def test_the_timeline_draws_turns_and_marks_to_scale(self, browse, make_call):
        call = make_call()
        Turn.objects.record(
            [
                turn_row(call.id, 0, "agent", start_ms=0, end_ms=2500, interrupted=True),
                turn_row(call.id, 1, "caller", start_ms=5000, end_ms=None),
            ]
        )
        events = [event_row(call.id, ms=10_000)]
        events += [event_row(call.id, ms=20, kind="configuration", severity="info")]
        CallEvent.objects.record(events)
        timeline = browse(call.get_absolute_url()).context["timeline"]
        assert [(bar.x, bar.width) for bar in timeline.agent] == [(0, 250)]
        assert [(bar.x, bar.width) for bar in timeline.caller] == [(500, 500)], "open until now"
        assert [mark.x for mark in timeline.marks] == [1000]
        assert (timeline.interrupted, timeline.errors, timeline.agent_ms) == (1, 1, 2500)
        assert timeline.ticks == [0, 2500, 5000, 7500, 10_000]

    def test_what_people_and_models_say_stays_text(self, browse, make_call):
        hostile = {HOSTILE: HOSTILE}
        call = make_call(
            caller=HOSTILE, callee=HOSTILE, room_id=HOSTILE, metadata=hostile,
            client_configs=hostile, said=[("caller", HOSTILE), ("agent", HOSTILE)],
        )  # fmt: skip
        CallSession.objects.answered_by(call.id, hostile)
        CallEvent.objects.record([event_row(call.id, HOSTILE, provider=HOSTILE[:80], detail=hostile)])
        for response in (browse(), browse(q=HOSTILE), browse(call.get_absolute_url())):
            html = response.content.decode()
            assert "<script>" not in html
            assert "<img src=x" not in html
            assert "&lt;script&gt;" in html

    def test_no_word_turns_another_round(self, browse, make_call):
        """What reverses the order of letters is out of names and JSON, and ends with the text it is in."""
        reversed_ = "\u202e9876543210"
        told = {"ticket": f"{reversed_}\u200b"}
        call = make_call(caller=reversed_, callee=reversed_, metadata=told, said=[("caller", reversed_)])
        CallEvent.objects.record([event_row(call.id, reversed_)])
        html = browse(call.get_absolute_url()).content.decode() + browse(q="9876543210").content.decode()
        assert '"ticket": &quot' not in html
        assert r"\u202e9876543210\u200b" in unescape(html)
        holders = dict(re.findall(r"<(\w+)([^>]*)>[^<]*\u202e", html))
        assert {*holders} - {"title", "bdi", "mark"} == {"p", "span"}
        assert 'dir="auto"' in holders["p"]
        assert 'dir="auto"' in holders["span"]
        assert not re.search('="[^"]*\u202e', html)

    def test_no_style_or_script_is_inline(self, browse, make_call):
        call = make_call(said=[("caller", "a"), ("agent", "b")])
        for response in (browse(), browse(call.get_absolute_url())):
            assert not re.search(
                r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", response.content.decode()
            )

    def test_more_turns_need_no_more_queries(self, browse, make_call, django_assert_num_queries):
        for said in (1, 40):
            call = make_call(said=[("caller", "hi")] * said)
            CallEvent.objects.record(event_row(call.id) for _ in range(said))
            with django_assert_num_queries(15):
                browse(call.get_absolute_url())

    def test_a_long_call_is_shown_in_parts(self, browse, make_call, django_assert_num_queries):
        call = make_call(said=[("caller" if n % 2 else "agent", f"sentence {n}") for n in range(450)])
        with django_assert_num_queries(15):
            first = browse(call.get_absolute_url())
        assert [turn.index for turn in first.context["turns"]] == list(range(200))
        assert "1–200 of 450 turns" in text_of(first)
        second = browse(call.get_absolute_url() + link(first, "next").partition("#")[0])
        assert [turn.index for turn in second.context["turns"]] == list(range(200, 400))
        drawn = second.context["timeline"]
        assert len(drawn.caller) + len(drawn.agent) == 200
        assert (drawn.agent[0].x, drawn.ticks[0], drawn.ticks[-1]) == (0, 200_000, 399_900)
        last = browse(call.get_absolute_url(), turn=449)
        assert [turn.index for turn in last.context["turns"]] == list(range(400, 450))
        assert "Later" not in text_of(last)
        assert 'href="?turn=200#transcript"' in last.content.decode()

    def test_the_keys_of_one_input_are_one_event_and_look_like_keys(self, browse, make_call):
        call = make_call(said=[("caller", "Keys pressed: 12# <i>"), ("agent", "Keys pressed: 1")])
        pressed = [(1000, "1"), (1900, "2"), (3800, "#"), (5801, "7")]
        CallEvent.objects.record(
            event_row(call.id, f"the caller pressed {digit}", kind="key", severity="info", ms=ms,
                      detail={"digit": digit})
            for ms, digit in pressed
        )  # fmt: skip
        text = browse(call.get_absolute_url()).content.decode()
        assert "Keys pressed: <kbd>1</kbd> <kbd>2</kbd> <kbd>#</kbd> &lt;i&gt;" in text
        assert '<p class="said" dir="auto">Keys pressed: 1</p>' in text
        assert text.count('<span class="tag key info">') == 2
        assert text.count('<line class="mark key info"') == 2
        assert "the caller pressed 1 2 #" in text
        assert "Keys pressed</span>" in text  # in the legend

    def test_a_transfer_that_failed_and_the_hang_up_are_seen(self, browse, make_call):
        call = make_call(said=[("agent", "One moment.")])
        story = [
            ("transfer", "info", "the agent transfers the call to sales"),
            ("transfer", "warning", "the transfer to sales failed: busy"),
            ("hang_up", "info", "the agent hung up"),
        ]
        CallEvent.objects.record(
            event_row(call.id, message, kind=kind, severity=severity, ms=1000 * n)
            for n, (kind, severity, message) in enumerate(story)
        )
        text = browse(call.get_absolute_url()).content.decode()
        for kind, severity, message in story:
            assert f'<span class="tag {kind} {severity}">' in text
            assert f'<line class="mark {kind} {severity}"' in text
            assert text.count(message) == 2  # in the list and in the picture
        assert 'Transfer</span><span class="key error">' in text

    def test_many_events_are_shown_in_parts(self, browse, make_call):
        call = make_call(said=[("caller", "hi")] * 300)
        CallEvent.objects.record(event_row(call.id, f"event {n}.", ms=n * 1000) for n in range(300))
        first = browse(call.get_absolute_url(), turn=250)
        assert len(first.context["events"]) == 200
        assert len(first.context["timeline"].marks) == 100, "those of the turns that are shown"
        assert "event 199." in text_of(first)
        second = browse(call.get_absolute_url() + link(first, "next").partition("#")[0])
        assert [event.message for event in second.context["events"]] == [
            f"event {n}." for n in range(200, 300)
        ]
        assert second.context["turns"][0].index == 200, "the turns stay where they are"

    @pytest.mark.parametrize("wanted", ["", "x", "-1", "٣", "9" * 30])
    def test_a_part_that_is_none_is_one_that_is(self, browse, make_call, wanted):
        call = make_call(said=[("caller", "hi")])
        assert len(browse(call.get_absolute_url(), turn=wanted, event=wanted).context["turns"]) == 1

    def test_an_unknown_call_is_not_found(self, browse):
        response = browse(reverse("call-detail", args=[uuid4()]))
        assert response.status_code == 404
        assert "There is no such page" in text_of(response)


def test_a_form_without_its_token_is_explained(analyst):
    client = Client(enforce_csrf_checks=True)
    response = client.post("/login/", {"username": "analyst", "password": PASSWORD})
    assert response.status_code == 403
    assert "The form was not taken" in text_of(response)


def test_an_error_page_needs_nothing_that_may_be_broken(django_assert_num_queries):
    with django_assert_num_queries(0):
        response = server_error(RequestFactory().get("/"))
    assert response.status_code == 500
    for part in ("Something went wrong", "Calls are not affected", "tell whoever runs the server"):
        assert part in text_of(response)


class TestTestCalls:
    def test_the_list_leaves_them_out_until_they_are_asked_for(self, browse, make_call):
        make_call(caller="Ann")
        response = browse()
        assert listed(response) == ["Ann"]
        assert "test calls are left out" not in text_of(response)
        make_call(caller="Ben", is_test=True, draft={"system_prompt": HOSTILE})
        response = browse(q="support")
        assert listed(response) == ["Ann"]
        assert "test calls are left out, show them" in text_of(response)
        (shown,) = re.findall(r'href="([^"]*tests=[^"]*)"', response.content.decode())
        response = browse(unescape(shown))
        assert {*listed(response)} == {"Ann", "Ben"}
        assert response.context["form"].data["q"] == "support"
        assert listed(browse(tests="only")) == ["Ben"]
        assert "with test calls ×" in text_of(browse(tests="with"))
        assert listed(browse(tests="nonsense")) == []

    def test_a_list_with_none_but_test_calls_says_so(self, browse, make_call):
        make_call(is_test=True)
        text = text_of(browse())
        assert "No calls yet Only test calls so far: show them" in text
        assert "Talk to the agent" in text

    def test_the_page_of_one_shows_the_values_that_were_tried(self, browse, make_call):
        call = make_call(is_test=True, draft={"system_prompt": HOSTILE})
        response = browse(call.get_absolute_url())
        assert "test call" in text_of(response)
        assert "The values that were tried out" in text_of(response)
        assert HOSTILE not in response.content.decode()
