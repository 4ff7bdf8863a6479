"""One server for the calls that need nothing special; others start their own."""

import socket

import pytest

from tests.cloud.openai import KEY
from tests.e2e.server import AgentServer

SHOWN_LINES = 200
LONG_GREETING = (
    "Welcome to our pizza service. We have many kinds of pizza on our menu today. You can order a small one, "
    "a large one, or a family size. We also deliver to your home every day of the week."
)
CAPITALS = (
    "Hello. You may ask me for the capital of any country. The capital of Spain is Madrid. The capital of "
    "Italy is Rome. The capital of Germany is Berlin. The capital of Poland is Warsaw. The capital of Greece "
    "is Athens."
)
ONE_BREATH = (  # as much as is synthesized at once
    "We are the people who bake every pizza in this town and we would be very glad to bake one for you "
    "and for all of your friends on this beautiful day."
)
SHORT = {
    "system_prompt": "Answer in one short sentence.",
    "llm_settings": {"max_tokens": 16, "temperature": 0.0},
}
WILLED = {
    "system_prompt": "Answer in one short sentence.",
    "llm_provider": "openai",
    "llm_settings": {"model": "gpt-4.1", "max_tokens": 40},
}
PROFILES = [
    {**SHORT, "slug": "default", "is_default": True, "greeting": "Hello, how can I help you today?",
     "apology": "Sorry, something went wrong.", "farewell": "Thank you for calling, goodbye."},
    {**SHORT, "slug": "quiet"},
    {**SHORT, "slug": "deaf", "end_of_turn": "silence", "end_of_turn_silence_s": 3.0},
    {**SHORT, "slug": "long", "greeting": LONG_GREETING},
    {**SHORT, "slug": "teacher", "greeting": CAPITALS},
    {**SHORT, "slug": "stubborn", "greeting": LONG_GREETING, "allow_interruptions": False},
    {**SHORT, "slug": "patient", "end_of_turn": "silence", "end_of_turn_silence_s": 2.0},
    {**SHORT, "slug": "breathless", "greeting": ONE_BREATH, "tts_settings": {"speed": 0.5}},
    {**SHORT, "slug": "endless", "greeting": " ".join(["We have many kinds of pizza on our menu."] * 40)},
    {**SHORT, "slug": "short", "max_duration_s": 10, "farewell": "Our time is over, goodbye."},
    {**WILLED, "slug": "obedient", "prompt_policy": "replace", "use_client_settings": True},
    {**WILLED, "slug": "headstrong", "prompt_policy": "ignore"},
]  # fmt: skip


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """A failing test shows what its servers said."""
    report = yield
    if report.failed:
        servers = [each for each in getattr(item, "funcargs", {}).values() if isinstance(each, AgentServer)]
        report.sections += [("Output of the server", "".join(each.output[-SHOWN_LINES:])) for each in servers]
    return report


@pytest.fixture(scope="session")
def model_socket():
    """Where the agent looks for OpenAI: a test whose profile wants it serves it there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture(scope="session")
def agent(tmp_path_factory, model_socket):
    """The server on its embedded defaults."""
    url = f"http://127.0.0.1:{model_socket.getsockname()[1]}/v1"
    cloud = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}  # one key alone changes no default
    with AgentServer(tmp_path_factory.mktemp("agent"), profiles=PROFILES, **cloud) as server:
        yield server
