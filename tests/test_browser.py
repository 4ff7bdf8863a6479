"""The pages in a real, headless Chromium."""

import shutil
from contextlib import contextmanager

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from playwright.sync_api import expect, sync_playwright

from calls.models import CallEvent, PromptProfile, Turn
from tests.conftest import PASSWORD, event_row, turn_row

# The groups come from a migration; tests that commit empty the tables, so they are put back before this one.
pytestmark = pytest.mark.django_db(transaction=True)

LONG_WORD = "sip:" + "extraordinarilylongname" * 6 + "@pbx.example.com"


@pytest.fixture
def stored_call(make_call):
    PromptProfile.objects.ensure_default()
    call = make_call(caller="Ann", callee=LONG_WORD, metadata={"trace": LONG_WORD})
    for number in range(30):
        make_call(caller=LONG_WORD if number % 2 else "")
    turns = [turn_row(call.id, 0, "agent", "Hello, how can I help?", interrupted=True)]
    turns += [turn_row(call.id, 1, "caller", f"I lost my umbrella {LONG_WORD}", stt_ms=120)]
    Turn.objects.record(turns)
    CallEvent.objects.record([event_row(call.id, "No answer", ms=1200, detail={"url": LONG_WORD})])
    return call


@pytest.fixture
def chromium():
    """Start the browser: a context manager, as the ORM refuses to work while Playwright's event loop runs."""

    @contextmanager
    def start(**options):
        executable = shutil.which("chromium") or pytest.fail("Chromium is missing: apt-get install chromium")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], **options)
            yield browser
            browser.close()

    return start


def assert_fits(page):
    """Nothing is wider than the window."""
    wide, window = page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert wide <= window, f"{page.url} is {wide} px wide in a window of {window} px"


def browse(page, url, call_path):
    """Log in by keyboard, search, open a call, unfold its configuration; nothing may overflow on the way."""
    page.goto(url)
    expect(page).to_have_title("Log in · Voice agent")
    assert_fits(page)
    page.get_by_label("Username").press_sequentially("analyst")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("1–25 of 31 calls")).to_be_visible()
    assert_fits(page)

    page.get_by_label("Search").fill("umbrella")
    page.keyboard.press("Enter")
    expect(page.get_by_text("1 call found")).to_be_visible()
    page.get_by_role("link", name="Ann").click()
    expect(page.get_by_role("heading", name="Ann")).to_be_visible()
    assert page.url.startswith(f"{url}{call_path}?list=q%3Dumbrella")
    expect(page.locator(".turn").filter(has_text="I lost my umbrella")).to_be_visible()
    expect(page.get_by_role("img", name="interrupted turns: 1; errors: 1")).to_be_visible()
    for fold in page.locator("summary").all():
        fold.click()
    expect(page.get_by_text('"trace"')).to_be_visible()
    assert_fits(page)


def test_an_analyst_finds_a_call(live_server, analyst, stored_call, chromium):
    call_path, complaints, backgrounds = stored_call.get_absolute_url(), [], []
    with chromium() as browser:
        for scheme, width in (("light", 1200), ("light", 380), ("dark", 380)):
            context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text))
            page.on("pageerror", lambda error: complaints.append(str(error)))
            browse(page, live_server.url, call_path)
            backgrounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
            context.close()
    assert complaints == []
    assert backgrounds[0] == backgrounds[1] != backgrounds[2]


# The text on a page that is too faint for what is behind it, by WCAG's measure: 4.5, or 3 for large letters.
FAINT_TEXT = """() => {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = 1;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  const paint = (...colours) => {
    context.clearRect(0, 0, 1, 1);
    for (const colour of colours) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    return context.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (rgb) => {
    const [r, g, b] = [...rgb].slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const faint = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const style = getComputedStyle(element);
    if (!texts.currentNode.data.trim() || !element.checkVisibility({visibilityProperty: true})) continue;
    if (element.closest("svg, option, script, .unseen, .visually-hidden, :disabled")) continue;
    const backgrounds = [];
    for (let each = element; each; each = each.parentElement)
      backgrounds.unshift(getComputedStyle(each).backgroundColor);
    const under = [...paint("white", ...backgrounds)];
    const over = [...paint("white", ...backgrounds, style.color)];
    const [low, high] = [luminance(under), luminance(over)].sort((a, b) => a - b);
    const large = parseFloat(style.fontSize) >= 24;
    const contrast = (high + 0.05) / (low + 0.05);
    if (contrast < (large ? 3 : 4.5))
      faint.push(`${texts.currentNode.data.trim().slice(0, 40)}: ${contrast.toFixed(2)}`);
  }
  return faint;
}"""


@contextmanager
def logged_in(browser, url, name, **options):
    """A page of somebody who is logged in."""
    context = browser.new_context(**options)
    page = context.new_page()
    page.goto(f"{url}/login/")
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    yield page
    context.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_can_be_read_and_fits_a_phone(live_server, admin, stored_call, chromium, scheme):
    """The product's pages and the admin's, with words that stand out from what is behind them."""
    PromptProfile.objects.ensure_default()
    profile = f"/admin/calls/promptprofile/{PromptProfile.objects.get().pk}/"
    for flag in (ADDITION, CHANGE, DELETION):  # which the admin's index lists
        LogEntry.objects.log_actions(admin.pk, [PromptProfile.objects.get()], flag)
    pages = [
        "/calls/", "/calls/?q=umbrella&status=nope", "/calls/?q=nothing+like+this",
        stored_call.get_absolute_url(), "/nothing-here/", "/admin/",
        "/admin/calls/promptprofile/", f"{profile}change/", f"{profile}delete/",
        f"{profile}history/", "/admin/password_change/", f"{profile}archive/", f"{profile}restore/1/",
        "/admin/calls/promptprofile/add/", "/admin/calls/promptprofile/add/?start=restaurant&language=de",
        f"{profile}change/#part-providers",
    ]  # fmt: skip
    with chromium() as browser:
        for width in (1280, 360):
            window = {"width": width, "height": 800}
            with logged_in(browser, live_server.url, "admin", color_scheme=scheme, viewport=window) as page:
                for path in pages:
                    page.goto(live_server.url + path)
                    assert_fits(page)
                    assert page.evaluate(FAINT_TEXT) == [], page.url
                    assert page.locator("header.site").bounding_box()["height"] < 60, page.url  # one line


def test_faint_text_is_found(chromium):
    with chromium() as browser:
        page = browser.new_page()
        page.set_content("<p style='color: #999'>faint</p><p>plain</p><p style='color: #0006'>too</p>")
        assert [found.split(":")[0] for found in page.evaluate(FAINT_TEXT)] == ["faint", "too"]


def test_light_or_dark_is_chosen_once_for_pages_and_admin(live_server, admin, chromium):
    background = "getComputedStyle(document.body).backgroundColor"
    toggle = ("button", "Theme:")
    with chromium() as browser, logged_in(browser, live_server.url, "admin", color_scheme="light") as page:
        light = page.evaluate(background)
        page.get_by_role(toggle[0], name=toggle[1]).click()
        dark = page.evaluate(background)
        assert dark != light
        expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
        page.goto(f"{live_server.url}/admin/")
        assert page.evaluate(background) == dark
        page.get_by_role(toggle[0], name=toggle[1]).click()
        assert page.evaluate(background) == light
        page.goto(f"{live_server.url}/calls/")
        expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        assert page.evaluate(background) == light


def test_a_laptop_shows_25_calls_and_nothing_jumps(live_server, analyst, stored_call, chromium):
    window = {"width": 1280, "height": 800}
    with chromium() as browser, logged_in(browser, live_server.url, "analyst", viewport=window) as page:
        rows = page.locator(".calls tbody tr")
        expect(rows).to_have_count(25)
        box = rows.last.bounding_box()
        assert box["y"] + box["height"] <= 800
        page.get_by_text("+ filter").click()
        expect(page.get_by_label("Has errors")).to_be_visible()
        assert rows.last.bounding_box() == box
        words, search = page.get_by_role("searchbox"), page.get_by_role("button", name="Search")
        field, button = words.bounding_box(), search.bounding_box()
        assert (button["y"], button["height"]) == (field["y"], field["height"])
        assert button["x"] - field["x"] - field["width"] < 16
        page.get_by_label("Has errors").check()
        page.get_by_role("button", name="Show").click()
        expect(page.get_by_text("1 call found")).to_be_visible()
        expect(rows).to_contain_text("1 error")
        page.get_by_role("link", name="has errors").click()
        expect(rows).to_have_count(25)


def test_the_list_is_read_by_keyboard(live_server, analyst, stored_call, chromium):
    with chromium() as browser, logged_in(browser, live_server.url, "analyst") as page:
        page.goto(f"{live_server.url}/calls/?status=active")
        links = page.locator("[data-row]")
        page.keyboard.press("/")
        search = page.get_by_role("searchbox", name="Search")
        expect(search).to_be_focused()
        page.keyboard.type("jk?/")
        expect(search).to_have_value("jk?/")
        page.keyboard.press("Escape")
        for key, row in (("j", 0), ("j", 1), ("j", 2), ("k", 1), ("k", 0), ("k", 0), ("j", 1)):
            page.keyboard.press(key)
            expect(links.nth(row)).to_be_focused()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        path = links.nth(1).get_attribute("href")
        page.keyboard.press("Enter")
        expect(page).to_have_url(live_server.url + path)
        page.keyboard.press("Escape")
        expect(page).to_have_url(f"{live_server.url}/calls/?status=active")


def test_a_call_is_read_and_left_by_keyboard(live_server, analyst, stored_call, chromium):
    with chromium() as browser, logged_in(browser, live_server.url, "analyst") as page:
        page.goto(live_server.url + stored_call.get_absolute_url())
        page.keyboard.press("j")
        page.keyboard.press("j")
        expect(page.locator("#turn-1 [data-row]")).to_be_focused()
        page.keyboard.press("/")
        expect(page.get_by_role("searchbox", name="Search")).to_be_focused()


def test_the_keys_are_listed_and_can_be_switched_off(live_server, analyst, stored_call, chromium):
    with chromium() as browser, logged_in(browser, live_server.url, "analyst") as page:
        keys = page.get_by_role("dialog", name="Keys")
        page.keyboard.press("?")
        expect(keys).to_be_visible()
        page.keyboard.press("j")
        expect(page.locator("[data-row]:focus")).to_have_count(0)
        page.keyboard.press("Escape")
        expect(keys).to_be_hidden()
        page.get_by_role("button", name="Keys").click()
        keys.get_by_label("Use these keys").uncheck()
        keys.get_by_role("button", name="Close").click()
        page.keyboard.press("j")
        expect(page.locator("[data-row]:focus")).to_have_count(0)
        page.reload()
        page.keyboard.press("?")
        expect(keys).to_be_hidden()


def test_a_profiles_form_shows_what_is_chosen_and_whether_it_is_ready(live_server, admin, chromium):
    PromptProfile.objects.ensure_default()
    profile = f"/admin/calls/promptprofile/{PromptProfile.objects.get().pk}/change/"
    with chromium() as browser, logged_in(browser, live_server.url, "admin") as page:
        page.goto(live_server.url + profile)
        expect(page.get_by_label("Greeting")).to_be_visible()
        page.get_by_role("link", name="Providers").click()
        expect(page.get_by_label("Greeting")).to_be_hidden()
        expect(page).to_have_url(f"{live_server.url}{profile}#part-providers")

        # The fields of the provider chosen, and no others; what it lacks is said at once.
        voice, speed = page.locator("[name=tts-cartesia-voice]"), page.locator("[name=tts-local-speed]")
        expect(speed).to_be_visible()
        expect(voice).to_be_hidden()
        ready = page.get_by_role("region", name="Ready?")
        expect(ready).not_to_contain_text("no key")
        page.get_by_label("Text-to-speech", exact=False).first.select_option("cartesia")
        expect(voice).to_be_visible()
        expect(speed).to_be_hidden()
        expect(ready).to_contain_text("Cartesia: no key → the embedded one, English only", timeout=20_000)

        # A finding leads to its field, wherever that is.
        page.get_by_role("link", name="What it says").click()
        page.locator("[name=language]").select_option("de")
        expect(ready).to_contain_text("does not know German", timeout=20_000)
        page.get_by_role("link", name="Cartesia: no key, and").click()
        expect(page.locator("[name=tts_provider]")).to_be_focused()

        # Who leaves with something typed is asked.
        asked = []
        page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
        page.get_by_role("link", name="Close").click()
        expect(page).to_have_title("Select profile to change · Voice agent")
        assert asked == ["beforeunload"]


def test_mistakes_are_found_behind_their_tabs(live_server, admin, chromium):
    PromptProfile.objects.ensure_default()
    profile = f"/admin/calls/promptprofile/{PromptProfile.objects.get().pk}/change/"
    with chromium() as browser, logged_in(browser, live_server.url, "admin") as page:
        page.goto(f"{live_server.url}{profile}#part-turn-taking-and-limits")
        page.get_by_label("Longest duration").fill("3")
        page.get_by_role("button", name="Save draft").click()
        expect(page.get_by_label("Longest duration")).to_be_visible()
        expect(page.get_by_text("greater than or equal to 10")).to_be_visible()
        expect(page.get_by_role("link", name="Turn-taking and limits (1)")).to_be_visible()
        expect(page.get_by_label("Greeting")).to_be_hidden()


def test_the_menu_closes_and_logs_out(live_server, admin, chromium):
    with chromium() as browser, logged_in(browser, live_server.url, "admin") as page:
        out = page.get_by_role("button", name="Log out")
        page.locator("summary", has_text="admin").click()
        expect(page.get_by_role("link", name="Administration")).to_be_visible()
        page.keyboard.press("Escape")
        expect(out).to_be_hidden()
        page.goto(f"{live_server.url}/admin/")
        page.locator("summary", has_text="admin").click()
        out.click()
        expect(page).to_have_url(f"{live_server.url}/login/")


def test_nothing_is_seen_by_going_back_after_logging_out(live_server, admin, stored_call, chromium):
    """Neither a transcript nor the list, nor what the admin shows."""
    PromptProfile.objects.update(name="Umbrella profile")
    paths = (stored_call.get_absolute_url(), "/calls/?q=umbrella", "/admin/calls/promptprofile/")
    # Playwright switches off what a browser keeps of a page for going back to it.
    with chromium(ignore_default_args=["--disable-back-forward-cache"]) as browser:
        for path in paths:
            with logged_in(browser, live_server.url, "admin") as page:
                page.goto(live_server.url + path)
                expect(page.locator("body")).to_contain_text("mbrella")
                page.locator("summary", has_text="admin").click()
                page.get_by_role("button", name="Log out").click()
                expect(page).to_have_url(f"{live_server.url}/login/")
                page.go_back()
                expect(page.get_by_label("Password")).to_be_visible()
                expect(page.locator("body")).not_to_contain_text("mbrella")


def test_the_keyboard_reaches_the_content_first(live_server, chromium):
    with chromium() as browser:
        page = browser.new_page()
        page.goto(live_server.url + "/nothing-here")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
