"""Somebody tries the agent out in Chromium, whose microphone is a WAV, or directs a call on its page."""

import shutil
import wave
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

from calls.simulator.words import words_of
from tests.e2e.speech import recognise, say
from tests.test_browser import FAINT_TEXT, assert_fits

RATE = 16_000
WITHIN_MS = 40_000
# Adds what the page's speaker plays to `played`, as bytes of s16le at 16 kHz, in base 64.
LISTEN = """
  window.played = [];
  const Node = AudioWorkletNode;
  window.AudioWorkletNode = class extends Node {
    constructor(context, name, options) {
      super(context, name, options);
      if (name !== "mouth") return;
      const tap = new Node(context, "ears", {numberOfInputs: 1, numberOfOutputs: 1});
      this.connect(tap).connect(context.destination);
      tap.port.onmessage = ({data}) => window.played.push(...new Uint8Array(data.pcm));
    }
  };
"""


@pytest.fixture(scope="module")
def microphone(tmp_path_factory):
    """A WAV in which somebody asks the same every ten seconds, for the first time after three."""
    path = tmp_path_factory.mktemp("microphone") / "question.wav"
    question = say("What is the capital of France?")
    silence = bytes(RATE * 2)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(3 * silence + question + 7 * silence)
    return path


@contextmanager
def chromium(*arguments, **options):
    """A page of somebody who is logged in as the first user."""
    executable = shutil.which("chromium") or pytest.fail("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        args = ["--no-sandbox", *arguments]
        browser = playwright.chromium.launch(executable_path=executable, args=args)
        try:
            yield browser.new_context(**options)
        finally:
            browser.close()


def log_in(context, agent):
    page = context.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.goto(f"{agent.page}/login/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    return page


def the_call(agent, page):
    """The id of the call that the page links to, and its row once it is over."""
    with page.expect_navigation():
        page.get_by_role("link", name="See the call's page").click()
    id = page.url.rstrip("/").rsplit("/", 1)[1].replace("-", "")
    for _ in range(200):
        (row,) = agent.rows("SELECT * FROM calls_callsession WHERE id = ?", id)
        if row["status"] != "active":
            return id, row
        page.wait_for_timeout(50)
    pytest.fail("the call goes on")


def the_running_call(agent, page):
    """The id of the only test call that goes on, once it is stored."""
    for _ in range(200):
        if rows := agent.rows("SELECT id FROM calls_callsession WHERE status = 'active' AND is_test = 1"):
            (row,) = rows
            return row["id"]
        page.wait_for_timeout(50)
    return pytest.fail("the call is not stored")


def of_voice(microphone):
    return (
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    )


def test_by_voice_on_a_phone_one_interrupts_asks_and_hears_the_answer(agent, microphone):
    window = {"width": 390, "height": 844}
    with chromium(*of_voice(microphone), viewport=window, color_scheme="dark") as context:
        page = log_in(context, agent)
        page.add_init_script(LISTEN)
        page.goto(f"{agent.page}/try/?profile=teacher")
        assert_fits(page)
        assert page.evaluate(FAINT_TEXT) == []
        page.get_by_role("button", name="Talk").click()
        turns = page.locator(".try-turn")
        expect(turns.filter(has_text="Agent · interrupted").first).to_be_visible(timeout=WITHIN_MS)
        expect(turns.filter(has_text="France").first).to_be_visible(timeout=WITHIN_MS)
        answer = turns.filter(has_text="at your ear after").first
        expect(answer).to_contain_text("answered after", timeout=WITHIN_MS)
        page.wait_for_function("document.querySelector('[data-part=agent]').value > 0.5", timeout=WITHIN_MS)
        asked = page.locator(".try-turn.caller:not(.interim)").filter(has_text="France")
        expect(asked.nth(1)).to_be_visible(timeout=WITHIN_MS)  # so the answer is over
        assert_fits(page)
        assert page.evaluate(FAINT_TEXT) == []
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_text("You hung up.")).to_be_visible()
        heard = bytes(page.evaluate("window.played"))
        assert page.complaints == []
        id, call = the_call(agent, page)
        expect(page.get_by_text("test call", exact=True)).to_be_visible()
    words = recognise(heard).split()
    assert "hello" in words
    assert "athens" not in words  # the end of the greeting, which was interrupted
    assert (call["is_test"], call["client_generation"], call["caller"]) == (1, "browser", "admin")
    assert (call["status"], call["end_reason"]) == ("completed", "disconnect")
    said = agent.rows('SELECT * FROM calls_turn WHERE session_id = ? ORDER BY "index"', id)
    assert [(turn["speaker"], turn["interrupted"]) for turn in said[:2]] == [("agent", 1), ("caller", 0)]
    answer = next(turn for turn in said if turn["total_ms"] is not None)
    answered = words_of(answer["text"])
    assert len([word for word in answered if word in words]) >= len(answered) / 2, (answered, words)


def test_by_typing_beside_the_form_one_tries_what_is_not_saved(agent):
    with chromium() as context:
        page = log_in(context, agent)
        pk = agent.rows("SELECT id FROM calls_promptprofile WHERE slug = 'quiet'")[0]["id"]
        page.goto(f"{agent.page}/admin/calls/promptprofile/{pk}/change/")
        panel = page.get_by_role("region", name="Try it")
        page.locator("#id_system_prompt").fill("")
        panel.get_by_role("button", name="Type instead").click()
        expect(panel.get_by_text("The form has mistakes:")).to_be_visible()
        expect(panel.get_by_role("listitem").filter(has_text="This field is required.")).to_be_visible()

        page.locator("#id_system_prompt").fill("Answer in one short sentence.")
        page.locator("#id_greeting").fill("Not <saved> yet.")
        panel.get_by_role("button", name="Type instead").click()
        turns = panel.locator(".try-turn:not(.note)")  # a note may say that the reply was cut
        expect(turns.first).to_contain_text("Not <saved> yet.", timeout=WITHIN_MS)
        panel.get_by_label("Your words").fill("What is the capital of Italy?")
        page.keyboard.press("Enter")
        expect(turns.nth(1)).to_contain_text("What is the capital of Italy?")
        expect(turns.nth(2)).to_contain_text("Rome", timeout=WITHIN_MS)
        expect(turns.nth(2)).to_contain_text("thought", timeout=WITHIN_MS)
        panel.get_by_role("button", name="Hang up").click()
        assert page.complaints == []
        _, call = the_call(agent, page)
        expect(page.get_by_text("unsaved values")).to_be_visible()
    assert (call["is_test"], call["version_id"], call["profile_id"]) == (1, None, pk)
    assert '"greeting": "Not <saved> yet."' in call["draft"]
    assert '"stt"' not in call["in_force"]
    (stored,) = agent.rows("SELECT greeting FROM calls_promptprofile WHERE slug = 'quiet'")
    assert stored["greeting"] == ""


def test_a_call_is_directed_on_its_page(agent):
    """Somebody types to the agent in one window; in another it is told what to do."""
    with chromium(viewport={"width": 390, "height": 844}) as context:
        page = log_in(context, agent)
        page.goto(f"{agent.page}/try/?profile=default")
        page.get_by_role("button", name="Type instead").click()
        turns = page.locator(".try-turn:not(.note)")
        expect(turns.first).to_contain_text("how can I help you", timeout=WITHIN_MS)
        id = the_running_call(agent, page)

        other = context.new_page()
        other.goto(f"{agent.page}/calls/{id}/")
        live = other.get_by_role("region", name="The call now")
        assert_fits(other)
        assert other.evaluate(FAINT_TEXT) == []
        live.get_by_label("Have the agent say").fill("Your taxi is waiting.")
        live.get_by_role("button", name="Say it").click()
        expect(turns.nth(1)).to_contain_text("Your taxi is waiting.", timeout=WITHIN_MS)
        told = "admin: say “Your taxi is waiting.”: The agent says it."
        expect(live.get_by_text(told)).to_be_visible(timeout=WITHIN_MS)
        expect(live.locator(".latest")).to_contain_text("Your taxi is waiting.", timeout=WITHIN_MS)

        live.get_by_role("button", name="Mute the agent").click()
        expect(live.get_by_text("admin: mute: The agent is silent")).to_be_visible(timeout=WITHIN_MS)
        page.get_by_label("Your words").fill("What is the capital of Spain?")
        page.get_by_role("button", name="Send").click()
        expect(live.locator(".latest")).to_contain_text("capital of Spain", timeout=WITHIN_MS)
        expect(turns).to_have_count(3)  # no answer
        live.get_by_text("Change the prompt").click()
        live.get_by_label("The system prompt").fill("Answer {{ calle }} in one word.")
        live.get_by_role("button", name="Put it in force").click()
        expect(live.get_by_text("Refused: {{ calle }} is not known")).to_be_visible(timeout=WITHIN_MS)
        expect(live.get_by_label("The system prompt")).to_have_value("Answer {{ calle }} in one word.")
        if not live.get_by_label("The system prompt").is_visible():  # the page came before the answer
            live.get_by_text("Change the prompt").click()
        live.get_by_label("The system prompt").fill("Answer {{ caller }} in one word.")
        live.get_by_role("button", name="Put it in force").click()
        expect(live.get_by_text("admin: prompt: The agent goes by the new prompt")).to_be_visible(
            timeout=WITHIN_MS
        )
        live.get_by_role("button", name="Let it answer").click()
        expect(turns.nth(3)).to_contain_text("Agent", timeout=WITHIN_MS)

        live.get_by_role("button", name="Say farewell and hang up").click()
        expect(turns.last).to_contain_text("goodbye", timeout=WITHIN_MS)
        expect(page.get_by_text("The agent has ended the call.")).to_be_visible(timeout=WITHIN_MS)
        expect(live.get_by_text("The call is over.")).to_be_visible(timeout=WITHIN_MS)
        assert page.complaints == []
        _, call = the_call(agent, page)
    assert call["end_reason"] == "hung_up"
    assert call["error_count"] == 0
