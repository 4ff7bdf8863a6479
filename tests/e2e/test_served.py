"""What the server process says when it is ready, and what it serves over HTTP."""

import re

import httpx
import pytest

from tests.e2e.server import ROOT
from tests.e2e.test_socket import status_of


@pytest.fixture
def browser(agent):
    with httpx.Client(base_url=agent.page, follow_redirects=True, trust_env=False) as client:
        yield client


def log_in(browser, password):
    """Ask for the first page and fill in the form that comes instead."""
    page = browser.get("/")
    assert page.url.path == "/login/"
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)[1]
    form = {"username": "admin", "password": password, "csrfmiddlewaretoken": token}
    return browser.post(page.url, data=form)


async def test_the_addresses_it_prints_are_those_it_serves(agent, browser):
    printed = dict(re.findall(r"^  (\w+) +(\w+://\S+)$", "".join(agent.output), re.MULTILINE))
    assert printed == {"calls": agent.url, "pages": f"{agent.page}/", "admin": f"{agent.page}/admin/"}
    assert await status_of(printed["calls"]) == 101
    assert browser.get(printed["pages"]).status_code == 200
    assert browser.get(printed["admin"]).status_code == 200


def test_the_password_of_the_environment_is_that_of_admin(agent, browser):
    refused = log_in(browser, "another password")
    assert refused.url.path == "/login/"
    assert "enter a correct username and password" in refused.text

    welcome = log_in(browser, agent.environment["ADMIN_PASSWORD"])
    assert (welcome.status_code, welcome.url.path) == (200, "/calls/")
    assert browser.get("/admin/").url.path == "/admin/"
    assert "password from ADMIN_PASSWORD" in "".join(agent.output)
    assert agent.environment["ADMIN_PASSWORD"] not in "".join(agent.output)


def test_pages_name_collected_files_by_their_content(browser):
    """So that browsers may keep them for ever."""
    page = browser.get("/login/").text
    found = re.findall(r'href="(/static/(css/app|img/icon)\.[0-9a-f]{12}\.(css|svg))"', page)
    assert len(found) == 2
    for path, name, kind in found:
        file = browser.get(path)
        assert file.status_code == 200
        assert file.headers["Content-Type"].startswith({"css": "text/css", "svg": "image/svg+xml"}[kind])
        assert "immutable" in file.headers["Cache-Control"]
        assert file.content == (ROOT / "static" / f"{name}.{kind}").read_bytes()
    assert browser.get("/static/css/app.000000000000.css").status_code == 404


def test_it_is_healthy_and_ready_for_calls(browser):
    health, ready = browser.get("/healthz"), browser.get("/readyz")
    assert (health.status_code, health.json()) == (200, {"status": "ok"})
    assert (ready.status_code, ready.json()) == (
        200,
        {
            "status": "ok",
            "checks": dict.fromkeys(("process", "database", "channel_layer", "models", "profiles"), "ok"),
        },
    )
