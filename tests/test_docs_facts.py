"""What the documents state is held against the code: messages, codes, profile fields, figures, log lines."""

import inspect
import json
import re
import tomllib
from dataclasses import fields
from typing import get_args
from urllib.parse import urlsplit

import axes.handlers.database
from django.urls import resolve

import voiceagent
from calls.audio.format import SAMPLE_RATE
from calls.conversation import watchdog
from calls.gateway import admission, codes, idle, limits, outbox
from calls.gateway.pbx import arriving
from calls.models import EndReason, PromptProfile
from calls.models.behaviour import PromptPolicy
from calls.providers import catalogue
from calls.recorder import backlog
from calls.rustpbx import bridge, browser, codec, messages, url
from calls.simulator.wire import REQUIRED
from tests.documents import (
    DOCS,
    README,
    ROOT,
    WEBSOCKET_PATH,
    blocks,
    constants,
    inline_codes,
    rows,
    section,
)

CONNECTION, SERVER = constants("gateway/connection.py"), constants("gateway/server/daphne.py")

# --- RustPBX's configuration ------------------------------------------------------------------------------

RUSTPBX_KEYS = {
    "pipecat": {
        "enabled", "server_url", "use_for_ai", "fallback_to_internal", "connection_timeout",
        "default_system_prompt", "enable_metrics", "debug_logging", "reconnect", "audio",
    },
    "reconnect": {"enabled", "max_attempts", "initial_delay", "max_delay", "backoff_multiplier"},
    "audio": {"sample_rate", "channels", "frame_size", "buffer_size", "enable_compression", "encoding"},
}  # fmt: skip


def test_rustpbx_gets_every_key_it_needs(settings):
    (text,) = blocks("toml")
    config = tomllib.loads(text)["pipecat"]
    assert config.keys() == RUSTPBX_KEYS["pipecat"]
    assert config["reconnect"].keys() == RUSTPBX_KEYS["reconnect"]
    assert config["audio"].keys() == RUSTPBX_KEYS["audio"]
    assert config["audio"]["sample_rate"] == SAMPLE_RATE
    url = urlsplit(config["server_url"])
    assert url.port == settings.PORT
    assert url.path == f"/{WEBSOCKET_PATH}"


# --- The protocol -----------------------------------------------------------------------------------------

PROTOCOL = DOCS / "protocol.md"
OF_BROWSERS = {"say", "hang_up"}  # sends no client of RustPBX


def examples():
    return [json.loads(line) for block in blocks("json", PROTOCOL) for line in block.splitlines()]


def test_the_clients_messages_are_understood():
    commands = [message for message in examples() if "command" in message]
    decoded = {type(codec.decode_text(json.dumps(message))) for message in commands}
    keys = [message for message in examples() if message.get("type") == "dtmf"]
    decoded |= {type(bridge.decode_text(json.dumps(message))) for message in keys}
    typed = [message for message in examples() if message.get("type") in OF_BROWSERS]
    assert len(typed) == len(OF_BROWSERS)
    decoded |= {type(browser.decode_text(json.dumps(message))) for message in typed}
    assert decoded == set(get_args(messages.ClientMessage))
    assert {cells[0] for cells in rows(PROTOCOL, "What the client sends")} == {m["command"] for m in commands}


def test_the_servers_messages_are_those_it_sends():
    classes = {kind.type: kind for kind in messages.Timed.__subclasses__()}
    told = {name for name, kind in classes.items() if kind.__module__ == browser.__name__}
    assert all(f"`{name}`" in section(PROTOCOL, "A browser") for name in told)
    classes = {name: kind for name, kind in classes.items() if name not in told}
    shown = {message["type"]: message for message in examples() if "type" in message}
    for name in ("dtmf", *OF_BROWSERS):  # a bridge's, a browser's
        del shown[name]
    assert shown.keys() == {*classes, "audio"} == REQUIRED.keys(), "a real client drops what it does not know"
    for name, kind in classes.items():
        assert shown[name].keys() == {"type", *(field.name for field in fields(kind))}
    assert json.loads(codec.encode_audio(bytes([0, 0, 1, 0]), "1")) == shown["audio"]
    assert {cells[0] for cells in rows(PROTOCOL, "What the server sends")} == shown.keys()
    assert shown["connected"]["version"] == voiceagent.__version__


def test_every_error_code_and_ending_is_explained():
    assert {int(cells[0]) for cells in rows(PROTOCOL, "Errors")} == {int(code) for code in messages.ErrorCode}
    endings = rows(PROTOCOL, "How a connection ends")
    assert {cells[2] for cells in endings} | {"crash"} == set(EndReason.values)
    ours = {codes.NORMAL, codes.GOING_AWAY, codes.ABUSE, codes.INTERNAL}
    assert {int(cells[0]) for cells in endings} == {*ours, 1009}


def test_the_parameters_of_the_url_are_those_read():
    read = {"token", admission.TICKET, arriving.PBX, *url._DECODERS}
    shown = {name for cells in rows(PROTOCOL, "The URL") for name in cells[0].split(", ")}
    in_readme = {
        name for cells in rows(README, "Connect RustPBX") for name in re.findall(r"(\w+)=", cells[0])
    }
    assert shown == in_readme == read
    rates = next(cells[1] for cells in rows(PROTOCOL, "The URL") if cells[0] == "rate")
    assert [int(rate) for rate in re.findall(r"\d{4,}", rates)] == list(url.VOICE_RATES)


# --- Profiles, figures, names -----------------------------------------------------------------------------


def test_every_field_of_a_profile_is_explained():
    text = (DOCS / "profiles.md").read_text()
    names = {field.name for field in PromptProfile._meta.fields if field.editable} - {"id"}
    assert not [name for name in names if f"`{name}`" not in text]
    assert not [policy for policy in PromptPolicy.values if f"`{policy}`" not in text]


def test_every_setting_of_a_provider_is_listed():
    shown, kind, provider = set(), "", ""
    for cells in rows(DOCS / "profiles.md", "Providers"):
        kind, provider = cells[0] or kind, cells[1].split(" ")[0] or provider
        shown |= {(kind, provider, name) for name in cells[2].split(", ")}
    assert shown == {(p.kind, p.name, setting.name) for p in catalogue.PROVIDERS for setting in p.settings}


def test_the_limits_are_those_of_the_code(settings):
    due = watchdog.DUE_S
    figures = [
        f"{limits.MESSAGES_PER_S:.0f} a second, {limits.MESSAGES_AT_ONCE:.0f} at once",
        f"{limits.BYTES_PER_S / 1024:.0f} KB a second, {limits.BYTES_AT_ONCE / 2**20:.0f} MB at once",
        f"{limits.AUDIO_AT_ONCE_S:.0f} s at once",
        f"{CONNECTION['CONFIGURES_AT_ONCE']} at once",
        f"{SERVER['UNREAD_MESSAGES']:,}",
        f"{limits.ABUSE_AFTER:,}, {limits.FORGIVEN_PER_S:.0f} a second forgiven",
        f"{codec.MAX_BINARY_BYTES // 1024} KB",
        f"{outbox.MOST_MESSAGES} unread messages, or {SERVER['NOT_READING_S']:.0f} s",
        f"{limits.MISTAKES_AT_ONCE:,}, one a second forgiven",
        f"{settings.AUDIO_STOPPED_SECONDS} s since the last (AUDIO_STOPPED_SECONDS)",
        f"{idle.NO_AUDIO_S:.0f} s if none came",
        f"words {due['stt']:.0f} s, model {due['llm']:.0f} s, voice {due['tts']:.0f} s",
        f"{codec.MAX_NAME_CHARS} characters",
    ]
    text = "\n".join(" ".join(cells) for cells in rows(DOCS / "operations.md", "Limits"))
    assert not [figure for figure in figures if figure not in text]


def test_what_the_log_says_is_quoted_as_it_is():
    source = "".join(path.read_text() for path in (ROOT / "calls").rglob("*.py"))
    source += inspect.getsource(axes.handlers.database)
    for cells in rows(DOCS / "operations.md", "Logs"):
        if not cells[0].startswith("call …"):
            assert cells[0] in source, cells[0]
    assert f"more than {backlog.MOST_ROWS:,} rows" in (DOCS / "operations.md").read_text()


def test_the_pages_named_exist():
    paths = {code for code in inline_codes() if re.fullmatch(r"/[a-z/]+", code)} - {"/ws/rustpbx", "/ws/try/"}
    assert {"/healthz", "/readyz"} <= paths
    for path in paths:
        resolve(path)


def test_what_an_upgrade_of_pipecat_must_check_is_collected():
    text = (DOCS / "development.md").read_text()
    for path in (ROOT / "calls").rglob("*.py"):
        if re.search(r"upgrade of pipecat", path.read_text(), re.IGNORECASE):
            assert f"`{path.relative_to(ROOT)}`" in text


def test_the_changelog_knows_this_version():
    versions = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == voiceagent.__version__
