"""The pages about profiles: for everybody who may read them, with figures for those who may see calls."""

import re
from datetime import timedelta
from html import unescape

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import expect

from calls.models import CallEvent, CallSession, Pbx, PbxRoute, PromptProfile, Turn
from calls.profiles import results
from tests.conftest import edit_profiles, end_row, event_row, group_of, publish_profile, turn_row
from tests.test_browser import FAINT_TEXT, assert_fits, chromium, logged_in  # noqa: F401  a fixture

pytestmark = pytest.mark.django_db

LIST = "/profiles/"
SHOP = "/profiles/shop/"
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def reader():
    """May read profiles, and nothing of calls."""
    user = User.objects.create_user("reader")
    user.user_permissions.add(group_of("Analysts").permissions.get(codename="view_promptprofile"))
    return user


@pytest.fixture
def browse(client, analyst):
    client.force_login(analyst)
    return client.get


@pytest.fixture
def shop():
    return publish_profile("shop", name="The shop", is_default=True, greeting="Hello, this is the shop.")


@pytest.fixture
def answered(make_call):
    """A finished call of a version: its waits in ms, how often it was interrupted, and its errors."""

    def answer(version, *waits, interrupted=0, errors=0, seconds=30, ago=timedelta(hours=1)):
        started = timezone.now() - ago
        call = make_call(version_id=version.pk, started_at=started)
        turns = [
            turn_row(call.id, n, "agent", total_ms=ms, interrupted=n < interrupted)
            for n, ms in enumerate(waits)
        ]
        Turn.objects.record(turns)
        CallEvent.objects.record(event_row(call.id) for _ in range(errors))
        CallSession.objects.finish(end_row(call.id, ended_at=started + timedelta(seconds=seconds)))
        return call

    return answer


def text_of(page):
    """What a page says, without its script and tags."""
    return " ".join(unescape(re.sub("<[^>]*>", " ", page.content.decode())).split())


def rows_of(page):
    """The text of each row of a page's first table, without what can be done there."""
    body = re.search(r"<tbody.*?</tbody>", page.content.decode(), re.DOTALL)[0]
    body = re.sub('<td [^>]*class="doing".*?</td>', "", body, flags=re.DOTALL)
    rows = re.findall(r"<tr.*?</tr>", body, re.DOTALL)
    return [" ".join(unescape(re.sub("<[^>]*>", " ", row)).split()) for row in rows]


class TestTheList:
    def test_how_each_stands(self, browse, shop, admin):
        publish_profile("night", name="Night line")
        PromptProfile.objects.filter(slug="night").update(language="de", greeting="Guten Abend")
        PromptProfile.objects.create(name="Idea", slug="idea", system_prompt="x", llm_provider="gone")
        shop.greeting = "Hi"
        shop.save()
        shop.publish(admin, "Shorter")
        first, idea, night = rows_of(browse(LIST))
        assert first.startswith("The shop ★ default shop ✓ ready v2 by admin , just now")
        assert "✗ not ready Thinking: gone: there is no such provider here" in idea
        assert "never published, a draft only" in idea
        assert "✓ ready v1" in night, "what calls use is ready"
        assert "draft has changes ✗ draft not ready" in night, "what is being written is not"

    def test_how_calls_went_lately(self, browse, shop, answered):
        version = shop.current_version
        for ms in (400, 500, 900):
            answered(version, ms)
        answered(version, 700, errors=2, ago=timedelta(days=2))
        answered(version, 5000, errors=1, ago=timedelta(days=results.DAYS))
        (row,) = rows_of(page := browse(LIST))
        assert row.endswith("4 ⚠︎ 1 (25 %) 500 ms")
        for link in re.findall(r'href="(/calls/\?profile=[^"]*)"', page.content.decode()):
            calls = browse(unescape(link)).context["page"].calls
            assert len(calls) == (1 if "has_errors" in link else 4)

    def test_without_the_right_to_calls_there_are_no_figures(self, client, reader, shop, answered):
        answered(shop.current_version, 400, errors=1)
        client.force_login(reader)
        assert rows_of(client.get(LIST)) == ["The shop ★ default shop ✓ ready v1 , just now"]
        page = client.get(SHOP).content.decode()
        assert "results/" not in page
        assert client.get(f"{SHOP}results/").status_code == 403

    def test_who_answers_without_a_default_is_said(self, browse):
        publish_profile("shop")
        publish_profile("night")
        night, shop = rows_of(browse(LIST))
        assert "answers calls that name none" in shop
        assert "answers" not in night

    def test_what_is_archived_is_a_list_of_its_own(self, browse, shop):
        old = publish_profile("old", name="Old shop")
        old.archive()
        page = browse(LIST)
        assert "Old shop" not in text_of(page)
        assert "1 archived profile" in text_of(page)
        (row,) = rows_of(browse(LIST, {"archived": "on"}))
        assert row.startswith("Old shop archived old ✓ ready not published, was v1")

    def test_an_empty_one_says_what_would_be_there(self, browse):
        page = text_of(browse(LIST))
        assert "There is no profile" in page
        assert "Ask an administrator" in page
        assert "Nothing is archived" in text_of(browse(LIST, {"archived": "on"}))

    def test_one_talks_to_those_that_are_published(self, browse, shop):
        PromptProfile.objects.create(name="Idea", slug="idea", system_prompt="x")
        assert re.findall('href="(/try/[^"]*)"', browse(LIST).content.decode())[1:] == ["/try/?profile=shop"]
        assert "/try/?profile=shop" in browse(SHOP).content.decode()
        assert "There is no published profile" not in text_of(browse("/try/"))
        assert "There is no published profile “idea”: you talk to The shop." in text_of(
            browse("/try/?profile=idea")
        )

    def test_only_those_who_edit_are_led_to_the_admin(self, client, admin, analyst, shop):
        for user, edits in ((analyst, False), (admin, True)):
            client.force_login(user)
            for path in (LIST, SHOP):
                assert (
                    f"/admin/calls/promptprofile/{shop.pk}/" in client.get(path).content.decode()
                ) == edits

    def test_many_profiles_are_pages(self, browse, monkeypatch):
        monkeypatch.setattr("calls.pages.profiles.PROFILES", 2)
        for name in "abc":
            publish_profile(name)
        assert [row[0] for row in rows_of(browse(LIST))] == ["a", "b"]
        assert [row[0] for row in rows_of(browse(LIST, {"page": "2"}))] == ["c"]
        assert [row[0] for row in rows_of(browse(LIST, {"page": "nonsense"}))] == ["a", "b"]


class TestWhatItSays:
    def test_what_calls_use_now(self, browse, shop):
        PromptProfile.objects.update(greeting="Not yet")
        page = text_of(browse(SHOP))
        assert "This is version 1 , which calls use" in page
        assert "Hello, this is the shop." in page
        assert "Not yet" not in page
        assert "Longest duration 3600 s" in page

    def test_any_version_and_the_draft(self, browse, shop):
        edit_profiles(greeting="Second")
        PromptProfile.objects.update(greeting="Third")
        assert "Hello, this is the shop." in text_of(browse(SHOP, {"version": "1"}))
        assert "This is the draft , which calls do not use" in text_of(browse(SHOP, {"version": "draft"}))
        assert "Third" in text_of(browse(SHOP, {"version": "draft"}))
        for version in ("3", "0", "-1", "x", "1e3", "²", "9" * 40):
            assert browse(SHOP, {"version": version}).status_code == 404
        assert browse("/profiles/nobody/").status_code == 404

    def test_a_call_leads_to_the_version_that_answered(self, browse, shop, make_call):
        call = make_call(profile=shop)
        edit_profiles(greeting="Second")
        (link,) = re.findall(rf'href="({SHOP}[^"]*)"', browse(call.get_absolute_url()).content.decode())
        assert link == f"{SHOP}?version=1"

    def test_nothing_that_people_write_is_markup(self, browse, admin):
        shop = publish_profile("shop", name=HOSTILE, greeting=HOSTILE, llm_settings={HOSTILE: HOSTILE})
        shop.greeting = f"{HOSTILE} {HOSTILE}"
        shop.save()
        shop.publish(admin, HOSTILE)
        for path in (LIST, SHOP, f"{SHOP}versions/", f"{SHOP}versions/?from=1&to=2", f"{SHOP}results/"):
            assert HOSTILE not in browse(path).content.decode()


class TestVersions:
    @pytest.fixture
    def grown(self, shop, admin):
        """Three versions, and a draft with changes."""
        for number, greeting in enumerate(("Hello, this is the new shop.", "Good morning!"), 2):
            shop.greeting = greeting
            shop.max_duration_s = 100 * number
            shop.save()
            shop.publish(admin, f"Note {number}")
        shop.farewell = "Thank you for your call. Goodbye!"
        shop.save()
        return shop

    def words(self, page, tag):
        return [unescape(word) for word in re.findall(rf"<{tag}>(.*?)</{tag}>", page.content.decode())]

    def test_each_with_its_note_and_calls(self, browse, grown, make_call):
        make_call(profile=grown)
        draft, third, second, first = rows_of(browse(f"{SHOP}versions/"))
        assert draft.startswith("Draft has changes saved just now")
        assert third.startswith("Version 3 calls use it Note 3 just now by admin 1 Changes")
        assert second.startswith("Version 2 Note 2 just now by admin 0")
        assert first == "Version 1 – just now 0"

    def test_a_second_version_in_use_is_marked(self, browse, grown):
        PromptProfile.objects.update(split_version=grown.versions.last(), split_percent=20)
        for tab in ("versions", "results"):
            page = text_of(browse(f"{SHOP}{tab}/"))
            assert "Version 1 20 % of calls use it" in page
            assert "Version 3 calls use it" in page

    def test_what_the_draft_changes_comes_first(self, browse, grown):
        page = browse(f"{SHOP}versions/")
        assert "Version 3 → Draft" in text_of(page)
        assert (self.words(page, "del"), self.words(page, "ins")) == (["calling"], ["your call"])

    def test_any_two_can_be_compared_and_the_address_says_which(self, browse, grown):
        page = browse(f"{SHOP}versions/", {"from": "1", "to": "2"})
        assert "Version 1 → Version 2" in text_of(page)
        assert self.words(page, "ins") == ["new ", "200 s"]
        assert self.words(page, "del") == ["3600 s"]
        back = browse(f"{SHOP}versions/", {"from": "draft", "to": "1"})
        assert "Draft → Version 1" in text_of(back)
        checked = re.findall(r'name="(\w+)" value="(\w+)"[^>]* checked', back.content.decode())
        assert sorted(checked) == [("from", "draft"), ("to", "1")]
        assert "They are the same." in text_of(browse(f"{SHOP}versions/", {"from": "2", "to": "2"}))
        for wrong in ("4", "x", "9" * 40):
            assert browse(f"{SHOP}versions/", {"from": wrong, "to": "1"}).status_code == 404

    def test_with_one_version_there_is_nothing_to_compare(self, browse, shop):
        assert "Nothing to compare yet" in text_of(browse(f"{SHOP}versions/"))
        PromptProfile.objects.create(name="Idea", slug="idea", system_prompt="x")
        assert "This profile was never published" in text_of(browse("/profiles/idea/versions/"))

    def test_a_draft_like_the_newest_version_shows_what_that_changed(self, browse, grown):
        grown.publish()
        assert "Version 3 → Version 4" in text_of(browse(f"{SHOP}versions/"))

    def test_many_are_pages_and_the_pair_stays(self, browse, grown, monkeypatch):
        monkeypatch.setattr("calls.pages.profiles.VERSIONS", 2)
        page = browse(f"{SHOP}versions/", {"from": "1", "to": "3"})
        assert len(rows_of(page)) == 3
        older = unescape(re.search(r'rel="next" href="([^"]*)"', page.content.decode())[1])
        page = browse(f"{SHOP}versions/{older}")
        assert rows_of(page) == ["Version 1 – just now 0"]
        assert "Version 1 → Version 3" in text_of(page)


class TestResults:
    def test_a_version_beside_the_one_before(self, browse, shop, answered, monkeypatch):
        monkeypatch.setattr(results, "FEW", 2)
        first = shop.current_version
        answered(first, 400, 600, errors=1, seconds=60)
        answered(first, 1000, interrupted=1, seconds=20)
        edit_profiles(greeting="Second")
        second = shop.versions.first()
        for _ in range(4):
            answered(second, 500, interrupted=1, seconds=20)
        newest, oldest = rows_of(browse(f"{SHOP}results/"))
        assert re.search(r"4 0 % ▼ 50 points less .* 500 ms ▼ 100 ms less", newest)
        assert re.search(
            r"500 ms ▼ 500 ms less .* 1.0 ▲ 0.5 more .* 0:20 as before Changes of version 2$", newest
        )
        assert re.search(r"2 50 % 600 ms 1000 ms 0.5 0:20$", oldest)

    def test_a_few_calls_are_not_compared(self, browse, shop, answered):
        answered(shop.current_version, 500)
        edit_profiles(greeting="Second")
        answered(shop.versions.first(), 900)
        page = text_of(browse(f"{SHOP}results/"))
        assert "too few to compare" in page
        assert "more than before" not in page

    def test_of_many_calls_the_newest_are_looked_at(self, browse, shop, answered, monkeypatch):
        monkeypatch.setattr(results, "LOOKED_AT", 2)
        for ms, hours in ((9000, 5), (300, 2), (500, 1)):
            answered(shop.current_version, ms, ago=timedelta(hours=hours))
        (row,) = rows_of(browse(f"{SHOP}results/"))
        assert re.search(r"3 too few to compare 0 % 300 ms 500 ms", row)

    def test_calls_that_go_on_count_without_a_length(self, browse, shop, make_call):
        make_call(profile=shop)
        assert re.search(r"1 too few to compare 0 % – – 0.0 –$", rows_of(browse(f"{SHOP}results/"))[0])

    def test_before_the_first_version(self, browse):
        PromptProfile.objects.create(name="Idea", slug="idea", system_prompt="x")
        assert "No version yet" in text_of(browse("/profiles/idea/results/"))

    def test_many_versions_are_pages_and_the_last_is_compared_as_well(
        self, browse, shop, answered, monkeypatch
    ):
        monkeypatch.setattr("calls.pages.profiles.MEASURED", 1)
        monkeypatch.setattr(results, "FEW", 1)
        answered(shop.current_version, 500)
        edit_profiles(greeting="Second")
        answered(shop.versions.first(), 800)
        (row,) = rows_of(browse(f"{SHOP}results/"))
        assert "▲ 300 ms" in row
        assert rows_of(browse(f"{SHOP}results/", {"page": "2"}))[0].startswith("Version 1")

    @pytest.mark.parametrize(
        ("values", "percent", "expected"),
        [([5], 50, 5), ([1, 2, 3, 4], 50, 2), (range(1, 101), 95, 95), ([1, 1, 1, 9], 75, 1), ([], 50, None)],
    )
    def test_percentiles(self, values, percent, expected):
        assert results.percentile(results.Counter(values), percent) == expected
        assert results.percentile(results.Counter([*values, None]), percent) == expected


class TestConnect:
    def test_the_address_and_the_forks_file(self, browse, shop):
        page = text_of(browse(f"{SHOP}connect/", headers={"host": "localhost:8765"}))
        assert "ws://localhost:8765/ws/rustpbx?profile=shop Copy" in page
        assert 'server_url = "ws://localhost:8765/ws/rustpbx?profile=shop"' in page
        assert "wss://localhost/ws/rustpbx?profile=shop" in text_of(
            browse(f"{SHOP}connect/", secure=True, headers={"host": "localhost"})
        )

    def test_an_unpublished_one_says_who_answers(self, browse, shop):
        assert "not published" not in text_of(browse(f"{SHOP}connect/"))
        PromptProfile.objects.create(name="Idea", slug="idea", system_prompt="x")
        page = text_of(browse("/profiles/idea/connect/"))
        assert "This profile is not published: calls that name it are answered by the default one." in page

    def test_the_routes_of_pbxes_for_those_who_may_see_them(self, client, admin, analyst, shop):
        pbx = Pbx.objects.create(name="main", agent_url="http://localhost:9")
        PbxRoute.objects.create(pbx=pbx, callee="4930*", profile=shop)
        client.force_login(admin)
        page = client.get(f"{SHOP}connect/")
        assert "main : calls to 4930* from anybody" in text_of(page)
        assert f"/pbx/{pbx.pk}/" in page.content.decode()
        client.force_login(analyst)
        assert "4930*" not in text_of(client.get(f"{SHOP}connect/"))

    def test_no_token_is_shown(self, browse, shop, settings):
        settings.STREAM_TOKENS = ["the-token"]
        assert "the-token" not in browse(f"{SHOP}connect/").content.decode()


class TestWithManyCalls:
    """What a page costs does not depend on what is stored."""

    def plans(self, browse, path):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            browse(path)
        asked = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL enable_seqscan = off")  # which it prefers for a few rows
            for sql in asked:
                explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
                cursor.execute(f"{explain} {sql}")
                yield "\n".join(str(row) for row in cursor.fetchall())

    @pytest.mark.parametrize("path", [LIST, f"{SHOP}versions/", f"{SHOP}results/"])
    def test_no_table_of_calls_is_read_as_a_whole(self, browse, shop, answered, path):
        answered(shop.current_version, 500, interrupted=1)
        plans = list(self.plans(browse, path))
        assert any("session_by_" in plan for plan in plans)
        for plan in plans:
            assert not re.search(r"(SCAN|Seq Scan on) calls_(callsession|turn)\b(?! USING COVERING)", plan), (
                plan
            )

    def test_more_profiles_and_versions_ask_no_more(self, browse, shop, answered):
        def asked(path):
            with CaptureQueriesContext(connection) as queries:
                browse(path)
            return len(queries)

        edit_profiles(greeting="Second")
        first = asked(LIST), asked(f"{SHOP}versions/")
        for n in range(5):
            publish_profile(f"p{n}")
            edit_profiles(greeting=f"{n}")
        assert (asked(LIST), asked(f"{SHOP}versions/")) == first


@pytest.mark.django_db(transaction=True)
class TestInABrowser:
    @pytest.fixture
    def grown(self, admin, answered):
        shop = publish_profile("shop", name="The shop", is_default=True, system_prompt="Be brief. " * 90)
        for n in range(25):
            answered(shop.current_version, 500 + n, interrupted=n % 2)
        shop.system_prompt = f"{shop.system_prompt} Be kind."
        shop.language = "de"
        shop.save()
        shop.publish(admin, "Kinder")
        for n in range(25):
            answered(shop.versions.first(), 700 + n, errors=n % 2)
        shop.farewell = "extraordinarilylongname" * 9
        shop.tts_settings = {"voice": "sip:" + "extraordinarilylongname" * 6}
        shop.save()
        return shop

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_every_page_can_be_read_and_fits_a_phone(self, live_server, admin, grown, chromium, scheme):  # noqa: F811
        paths = [
            "",
            "versions/",
            "versions/?from=1&to=2",
            "versions/?from=2&to=draft",
            "results/",
            "connect/",
        ]
        edit = f"/admin/calls/promptprofile/{grown.pk}/change/"
        pages = [LIST, f"{LIST}?archived=on", *(SHOP + path for path in paths), edit,
                 "/admin/calls/promptprofile/", "/admin/calls/promptprofile/import/"]  # fmt: skip
        complaints = []
        with chromium() as browser:
            for width in (1280, 390):
                window = {"width": width, "height": 800}
                with logged_in(
                    browser, live_server.url, "admin", color_scheme=scheme, viewport=window
                ) as page:
                    page.on("console", lambda message: complaints.append(message.text))
                    page.on("pageerror", lambda error: complaints.append(str(error)))
                    for path in pages:
                        page.goto(live_server.url + path)
                        assert_fits(page)
                        assert page.evaluate(FAINT_TEXT) == [], page.url
        assert complaints == []

    def test_a_pair_is_chosen_by_keyboard_and_an_address_copied(self, live_server, analyst, grown, chromium):  # noqa: F811
        with (
            chromium() as browser,
            logged_in(
                browser, live_server.url, "analyst", permissions=["clipboard-read", "clipboard-write"]
            ) as page,
        ):
            page.get_by_role("navigation", name="Main").get_by_role("link", name="Profiles").click()
            page.wait_for_url(f"**{LIST}")
            page.keyboard.press("j")
            expect(page.get_by_role("link", name="The shop", exact=True)).to_be_focused()
            page.keyboard.press("Enter")
            page.get_by_role("link", name="Versions").click()
            page.get_by_label("From version 1").focus()
            page.keyboard.press("Space")
            page.get_by_label("To version 2").focus()
            page.keyboard.press("Space")
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", name="Version 1 → Version 2")).to_be_visible()
            assert {*page.url.partition("/profiles/shop/versions/?")[2].split("&")} == {"from=1", "to=2"}
            expect(page.locator("ins").filter(has_text="Be kind")).to_be_visible()
            page.get_by_text("characters that are the same").click()
            page.get_by_role("link", name="Connect").click()
            page.get_by_role("button", name="Copy").first.click()
            expect(page.get_by_role("button", name="Copied")).to_be_visible()
            copied = page.evaluate("navigator.clipboard.readText()")
            assert copied == f"{live_server.url.replace('http', 'ws')}/ws/rustpbx?profile=shop"
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            expect(page).to_have_url(f"{live_server.url}{LIST}")


class TestInTheAdmin:
    """YAML goes out and comes in."""

    IMPORT = "/admin/calls/promptprofile/import/"

    @pytest.fixture
    def post(self, client, admin):
        client.force_login(admin)
        return lambda text, **fields: client.post(self.IMPORT, {"text": text, **fields})

    def export_of(self, client, profile, **query):
        return client.get(f"/admin/calls/promptprofile/{profile.pk}/export/", query)

    def hidden(self, page):
        return re.search(r'name="revisions" value="([^"]*)"', page.content.decode())[1]

    def test_a_profile_is_exported_and_imported_elsewhere(self, client, admin, shop, post):
        PromptProfile.objects.update(greeting="A draft\r\nof two lines", llm_settings={"top_p": 0.5})
        shop.refresh_from_db()
        file = self.export_of(client, shop)
        assert file["Content-Disposition"] == 'attachment; filename="shop.yaml"'
        before = shop.configuration()
        PromptProfile.objects.update(slug="elsewhere", is_default=False)
        looked_at = post(file.content.decode())
        assert "A new profile." in text_of(looked_at)
        assert PromptProfile.objects.count() == 1, "nothing is saved before it is confirmed"
        done = post(file.content.decode(), confirmed="yes", revisions=self.hidden(looked_at))
        copy = PromptProfile.objects.get(slug="shop")
        assert done["Location"] == f"/admin/calls/promptprofile/{copy.pk}/change/"
        assert copy.configuration() == before
        assert (copy.name, copy.is_published) == ("The shop", False)
        assert client.get(f"/admin/calls/promptprofile/{copy.pk}/history/").status_code == 200

    def test_a_version_is_exported_as_it_was(self, client, admin, shop):
        edit_profiles(greeting="Second")
        client.force_login(admin)
        file = self.export_of(client, shop, version="1")
        assert "greeting: Hello, this is the shop." in file.content.decode()
        assert file["Content-Disposition"] == 'attachment; filename="shop-v1.yaml"'
        assert self.export_of(client, shop, version="9").status_code == 404

    def test_what_would_change_is_shown_first(self, client, shop, post):
        text = self.export_of(client, shop).content.decode().replace("this is the shop", "this is the store")
        page = post(text)
        assert "Its draft is replaced. This changes:" in text_of(page)
        assert "<ins>store</ins>" in page.content.decode()
        assert post(text, confirmed="yes", revisions=self.hidden(page)).status_code == 302
        shop.refresh_from_db()
        assert shop.greeting == "Hello, this is the store."
        assert shop.current_version.number == 1, "nothing is published"

    def test_what_somebody_else_changed_meanwhile_is_not_overwritten(self, client, shop, post):
        text = self.export_of(client, shop).content.decode().replace("the shop", "the store")
        page = post(text)
        shop.greeting = "Typed meanwhile"
        shop.save()
        again = post(text, confirmed="yes", revisions=self.hidden(page))
        assert "Meanwhile somebody else changed one of these drafts" in text_of(again)
        assert "Typed meanwhile" in text_of(again)
        shop.refresh_from_db()
        assert shop.greeting == "Typed meanwhile"

    def test_a_mistake_is_said_where_it_is_and_the_file_stays_to_be_mended(
        self, client, admin, shop, post, tmp_path
    ):
        page = post("name: Shop\nslug: shop\nsystem_promt: x\n")
        assert "Line 3, column 1: there is no field “system_promt”: did you mean system_prompt?." in text_of(
            page
        )
        assert "system_promt: x" in page.content.decode()
        file = tmp_path / "shop.yaml"
        file.write_bytes(b"name: [")
        with file.open("rb") as opened:
            page = client.post(self.IMPORT, {"file": opened})
        assert "name: [</textarea>" in page.content.decode()
        file.write_bytes(b"\xff")
        with file.open("rb") as opened:
            assert "Expected text in UTF-8" in text_of(client.post(self.IMPORT, {"file": opened}))
        assert "Choose a file, or enter its text." in text_of(post(""))

    def test_a_secret_is_not_exported(self, client, admin, shop):
        PromptProfile.objects.update(llm_settings={"api_key": "sk-0123456789abcdef0123"})
        client.force_login(admin)
        response = client.get(f"/admin/calls/promptprofile/{shop.pk}/export/", follow=True)
        assert "was not exported: llm_settings.api_key holds what looks like a key" in text_of(response)

    def test_a_reader_exports_and_does_not_import(self, client, analyst, shop):
        analyst.is_staff = True
        analyst.save()
        client.force_login(analyst)
        assert self.export_of(client, shop).status_code == 200
        assert client.get(self.IMPORT).status_code == 403
        assert "import/" not in client.get("/admin/calls/promptprofile/").content.decode()
