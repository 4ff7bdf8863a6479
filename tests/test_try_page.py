"""The page to talk to the agent, in browsers that give it no microphone, and what its sound check tells."""

import shutil
import wave
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

from calls.models import PromptProfile
from tests.conftest import publish_profile
from tests.test_browser import FAINT_TEXT, assert_fits, logged_in

pytestmark = pytest.mark.django_db(transaction=True)

DEVICE = "--use-fake-device-for-media-stream"
ALLOWED, DENIED = "--use-fake-ui-for-media-stream", "--use-fake-ui-for-media-stream=deny"


@pytest.fixture
def profile():
    PromptProfile.objects.ensure_default()
    return publish_profile("sales", name="Sales <desk> " + "of a long name " * 4)


@contextmanager
def chromium(*arguments):
    """A browser with these arguments."""
    executable = shutil.which("chromium") or pytest.fail("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", *arguments])
        try:
            yield browser
        finally:
            browser.close()


def recording(path, pcm):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(pcm)
    return f"--use-file-for-fake-audio-capture={path}"


def test_a_microphone_that_cannot_be_had_is_explained(live_server, analyst, profile):
    """By what the person can do about it; nothing overflows on a phone, and the call is not begun."""
    phone = {"viewport": {"width": 360, "height": 800}}
    with (
        chromium(DEVICE, DENIED) as browser,
        logged_in(browser, live_server.url, "analyst", **phone) as page,
    ):
        page.goto(f"{live_server.url}/try/?profile=sales")
        expect(page.get_by_label("Profile")).to_have_value("sales")
        talk = page.get_by_role("button", name="Talk")
        talk.click()
        expect(page.get_by_text("The browser keeps the microphone from this page.")).to_be_visible()
        assert_fits(page)
        assert page.evaluate(FAINT_TEXT) == []
        for error, says in (
            ("NotFoundError", "No microphone was found."),
            ("NotReadableError", "The microphone could not be opened."),
        ):
            fail = "async () => { throw new DOMException('', name) }"
            page.evaluate(f"name => navigator.mediaDevices.getUserMedia = {fail}", error)
            talk.click()
            expect(page.get_by_text(says)).to_be_visible()
            assert_fits(page)


def test_plain_http_from_another_machine_is_explained_before_one_talks(
    live_server, analyst, profile, settings
):
    settings.ALLOWED_HOSTS = ["agent.test", "localhost"]
    port = live_server.url.rpartition(":")[2]
    with (
        chromium(DEVICE, ALLOWED, "--host-resolver-rules=MAP agent.test 127.0.0.1") as browser,
        logged_in(browser, f"http://agent.test:{port}", "analyst", color_scheme="dark") as page,
    ):
        page.goto(f"http://agent.test:{port}/try/")
        expect(page.get_by_text("The browser gives this page no microphone,")).to_be_visible()
        expect(page.get_by_text(f"ssh -L {port}:127.0.0.1:{port} agent.test")).to_be_visible()
        expect(page.get_by_role("button", name="Talk")).to_be_disabled()
        expect(page.get_by_role("button", name="Type instead")).to_be_enabled()
        assert page.evaluate(FAINT_TEXT) == []


@pytest.mark.parametrize("says", ["✓ The microphone hears something.", "heard nothing"])
def test_the_sound_is_checked(live_server, analyst, tmp_path, says):
    """A sentence is played, and moves the agent's meter; whether the microphone heard anything is said."""
    PromptProfile.objects.ensure_default()
    voice = (bytes(8) + b"\x00\x30" * 4 + b"\x00\xd0" * 4) * 20_000
    microphone = recording(tmp_path / "microphone.wav", voice if says.startswith("✓") else bytes(len(voice)))
    with (
        chromium(DEVICE, ALLOWED, microphone) as browser,
        logged_in(browser, live_server.url, "analyst") as page,
    ):
        page.goto(f"{live_server.url}/try/")
        page.locator("summary", has_text="Check the sound").click()
        page.get_by_role("button", name="Play a sentence, and listen").click()
        page.wait_for_function("document.querySelector('[data-part=agent]').value > 0.5", timeout=30_000)
        expect(page.locator("[data-part=checked]")).to_contain_text(says, timeout=30_000)
        expect(page.get_by_label("Microphone")).to_contain_text("Fake")


def test_without_a_profile_there_is_nobody_to_talk_to(client, analyst, admin):
    client.force_login(analyst)
    page = client.get("/try/").content.decode()
    assert "Nobody would answer" in page
    assert "Publish one" not in page
    client.force_login(admin)
    assert "Publish one" in client.get("/try/").content.decode()
