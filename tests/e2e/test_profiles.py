"""A profile's life in a real browser, on a real server: each call gets what was published before it."""

import asyncio
import shutil
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import async_playwright, expect

from calls.simulator.call import run_call
from calls.simulator.script import Wait, WaitForAgent
from tests.e2e.server import AgentServer

PASSWORD = "correct horse battery"
BOB = (
    "import os, django; os.environ['DJANGO_SETTINGS_MODULE'] = 'voiceagent.settings'; django.setup();"
    "from django.contrib.auth.models import User;"
    f"User.objects.create_superuser('bob', password={PASSWORD!r})"
)


@pytest.fixture
def server(tmp_path):
    with AgentServer(tmp_path) as server:
        server.python("-c", BOB)
        yield server


@asynccontextmanager
async def chromium():
    executable = shutil.which("chromium") or pytest.fail("Chromium is missing: apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield browser
        await browser.close()


async def log_in(browser, server, name, complaints):
    """A page of somebody in the list of profiles; what the browser complains of is collected."""
    page = await (await browser.new_context()).new_page()
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(30_000)
    await page.goto(f"{server.page}/login/?next=/admin/calls/promptprofile/")
    await page.get_by_label("Username").fill(name)
    await page.get_by_label("Password").fill(PASSWORD)
    await page.get_by_role("button", name="Log in").click()
    await expect(page.get_by_role("link", name="Add profile")).to_be_visible()
    return page


async def publish(page, note=None, **typed):
    """Publish with what is typed into the fields of these names."""
    for label, text in typed.items():
        await page.locator(f"[name={label}]").fill(text)
    if note is not None:
        await page.get_by_label("What has changed?").fill(note)
    await page.get_by_role("button", name="Publish").click()


async def greeted(server, room):
    """What the next caller hears first, and which version that was."""
    report = await run_call([WaitForAgent(0.3)], url=f"{server.url}?profile=restaurant", room_id=room)
    assert report.failure is None
    session = await server.finished(room)
    (version,) = server.rows("SELECT number FROM calls_profileversion WHERE id = ?", session["version_id"])
    return report.of("tts_started")[0]["text"], version["number"]


@pytest.mark.timeout(300)
async def test_from_the_first_click_to_two_admins_at_once(server):
    complaints = []
    async with chromium() as browser:
        anna = await log_in(browser, server, "admin", complaints)

        # Three clicks from the list of profiles to a published one.
        await anna.get_by_role("link", name="Add profile").click()
        await anna.get_by_role("listitem").filter(has_text="Restaurant").get_by_text("English").click()
        await publish(anna)
        await expect(anna.get_by_text("Version 1 is published: the next call uses it.")).to_be_visible()
        first, number = await greeted(server, "first")
        assert (first, number) == ("Hello, and thank you for calling our restaurant.", 1)

        # A call that has begun goes on with its version; the next has what was published meanwhile.
        bob = await log_in(browser, server, "bob", complaints)
        await bob.get_by_role("link", name="Restaurant booking").click()
        talks = asyncio.Event()
        going_on = asyncio.create_task(
            run_call(
                [WaitForAgent(0.3), Wait(200)],
                url=f"{server.url}?profile=restaurant",
                room_id="long",
                on_event=lambda event: talks.set() if event.kind == "tts_started" else None,
            )
        )
        await asyncio.wait_for(talks.wait(), 60)
        await publish(anna, "in a hurry", greeting="Restaurant, hello!")
        await expect(anna.get_by_text("Version 2 is published")).to_be_visible()
        assert await greeted(server, "second") == ("Restaurant, hello!", 2)
        assert server.session("long")["status"] == "active"
        going_on.cancel()
        long = await server.finished("long", within=60)
        assert long["version_id"] != server.session("second")["version_id"]

        # Bob's form is older than that: he sees whose change came between, and loses nothing.
        await publish(bob, "kinder", greeting="Good evening!", farewell="Come back soon!")
        await expect(bob.get_by_role("heading", name="admin changed this profile while you")).to_be_visible()
        await expect(bob.get_by_label("Greeting")).to_have_value("Good evening!")
        await expect(bob.get_by_label("Farewell")).to_have_value("Come back soon!")
        await expect(bob.locator("#theirs-greeting")).to_have_text("Restaurant, hello!")
        assert await greeted(server, "still") == ("Restaurant, hello!", 2)
        await bob.get_by_role("button", name="Take admin’s").click()
        await expect(bob.get_by_label("Greeting")).to_have_value("Restaurant, hello!")
        await publish(bob)
        await expect(bob.get_by_text("Version 3 is published")).to_be_visible()
        assert await greeted(server, "third") == ("Restaurant, hello!", 3)
        (version,) = server.rows("SELECT * FROM calls_profileversion WHERE number = 3")
        assert version["note"] == "kinder"
        assert "Come back soon!" in version["configuration"]

        # The first version is back in three clicks.
        await bob.get_by_role("link", name="Restore version 1").click()
        await bob.get_by_role("button", name="Restore version 1").click()
        await publish(bob, "as it was")
        await expect(bob.get_by_text("Version 4 is published")).to_be_visible()
        assert await greeted(server, "fourth") == (first, 4)
    assert complaints == []
