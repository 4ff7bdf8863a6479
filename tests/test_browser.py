"""The pages in a real, headless Chromium."""

import shutil
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

from calls.models import CallEvent, Turn
from tests.conftest import PASSWORD, event_row, turn_row

# The groups come from a migration; tests that commit empty the tables, so they are put back before this one.
pytestmark = pytest.mark.django_db(transaction=True, serialized_rollback=True)

LONG_WORD = "sip:" + "extraordinarilylongname" * 6 + "@pbx.example.com"


@pytest.fixture
def stored_call(make_call):
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
    def start():
        executable = shutil.which("chromium") or pytest.fail("Chromium is missing: apt-get install chromium")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
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
    assert page.url == url + call_path
    expect(page.get_by_role("listitem").filter(has_text="I lost my umbrella")).to_be_visible()
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


def test_the_keyboard_reaches_the_content_first(live_server, chromium):
    with chromium() as browser:
        page = browser.new_page()
        page.goto(live_server.url + "/nothing-here")
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
