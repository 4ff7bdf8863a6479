"""The documents and examples are held against the code: links, commands, settings, messages, figures."""

import ast
import configparser
import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from contextlib import suppress
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

import granian.cli
import pytest
import uvicorn
from django.core.management import get_commands, load_command_class
from django.urls import resolve

import voiceagent
from calls import limits, protocol, recorder
from calls.models import EndReason, PromptProfile
from calls.models.profile import PromptPolicy
from calls.providers import catalogue
from calls.simulator.audio import read_wav

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
DEPLOY = sorted((ROOT / "deploy").iterdir())
BIN = Path(sys.executable).parent
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
OTHER_PROGRAMS = {"curl", "pg_dump"}
WEBSOCKET_PATH = re.search(r'path\("([^"]+)"', (ROOT / "calls" / "routing.py").read_text())[1]


def prose(path):
    """A document without its fenced blocks."""
    return FENCED.sub("", path.read_text())


def blocks(language, *paths):
    """The fenced blocks of a language."""
    for path in paths or DOCUMENTS:
        for _, fence_language, body in FENCED.findall(path.read_text()):
            if fence_language == language:
                yield textwrap.dedent(body)


def rows(path, heading):
    """The cells of the first table under a heading, without code marks; its head is left out."""
    section = prose(path).split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    table = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n?)+)", section, re.MULTILINE)[1]
    return [
        [cell.strip().replace("`", "") for cell in line.strip("|").split("|")] for line in table.splitlines()
    ]


def constants(path):
    """The figures a module of `calls` names. Importing it would load Pipecat or start Twisted."""
    found = {}
    for node in ast.parse((ROOT / "calls" / path).read_text()).body:
        with suppress(ValueError):  # what is no literal is no figure
            match node:
                case ast.Assign([ast.Name(name)], value):
                    found[name] = ast.literal_eval(value)
                case ast.Assign([ast.Tuple(names)], ast.Tuple() as values):
                    found |= zip((name.id for name in names), ast.literal_eval(values), strict=True)
    return found


CONSUMERS, SERVER, CALL = constants("consumers.py"), constants("server.py"), constants("call.py")


def inline_codes():
    """Every piece of inline code, over all documents."""
    return [code for path in DOCUMENTS for code in re.findall(r"`([^`\n]+)`", prose(path))]


# --- Links ------------------------------------------------------------------------------------------------


def anchors(path):
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        parts = urlsplit(target)
        if parts.scheme:
            assert parts.scheme == "https", target
            continue
        linked = (path.parent / parts.path).resolve() if parts.path else path
        if not linked.exists() or (parts.fragment and parts.fragment not in anchors(linked)):
            broken.append(target)
    assert not broken


def test_paths_in_code_marks_exist():
    folders = "calls|voiceagent|tests|docs|deploy|templates|static|benchmarks"
    named = {code for code in inline_codes() if re.fullmatch(rf"({folders})/[\w./]*", code)}
    assert named
    assert not [path for path in named if not (ROOT / path).exists()]


def test_pictures_are_small_and_shown():
    shown = "".join(path.read_text() for path in DOCUMENTS)
    pictures = sorted((DOCS / "img").iterdir())
    assert pictures
    for picture in pictures:
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert picture.stat().st_size < 300_000
        assert f"img/{picture.name}" in shown


# --- Commands ---------------------------------------------------------------------------------------------


def shell_commands():
    """The words of each command in the `sh` blocks, without variables set in front of it."""
    for block in blocks("sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words:
                yield words


def make_targets():
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def check_management_command(name, *arguments):
    """Have the command's own parser read the arguments; it raises if it knows one of them not."""
    assert name in get_commands(), f"there is no command {name}"
    app = get_commands()[name]
    command = app if not isinstance(app, str) else load_command_class(app, name)
    command.create_parser("manage.py", name).parse_args(arguments)


def check_options(program, words, known):
    unknown = [word for word in words if word.startswith("-") and word not in known]
    assert not unknown, f"{program} has no {unknown}"


def click_options(command):
    return {option for parameter in command.params for option in parameter.opts}


def check_python(words):
    match words:
        case ["manage.py", *rest]:
            check_management_command(*rest)
        case ["-c", code]:
            compile(code, "document", "exec")
        case ["-m", "pytest", *paths]:
            assert all((ROOT / path).exists() for path in paths)
        case ["-m", module, *_]:
            place = ROOT / module.replace(".", "/")
            assert place.with_suffix(".py").exists() or (place / "__main__.py").exists()
        case [script, *_]:
            assert (ROOT / script).exists()


@pytest.mark.parametrize("words", list(shell_commands()), ids=shlex.join)
def test_commands_can_be_run(words):
    program = words[0].removeprefix(".venv/bin/")
    match [program, *words[1:]]:
        case ["make", target]:
            assert target in make_targets()
        case ["python" | "python3", *rest]:
            check_python(rest)
        case ["hibari", *rest]:
            usage = subprocess.run([BIN / "hibari", "--help"], capture_output=True, text=True, check=True)
            check_options("hibari", rest, set(re.findall(r"--?[a-z-]+", usage.stdout)))
        case ["uvicorn", application, *rest]:
            assert application == "voiceagent.asgi:application"
            check_options("uvicorn", rest, click_options(uvicorn.main))
        case ["granian", *rest]:
            assert rest[-1] == "voiceagent.asgi:application"
            check_options("granian", rest, click_options(granian.cli.cli))
        case ["pip", "install", package]:
            assert re.search(rf"^{package}==", (ROOT / "requirements-dev.txt").read_text(), re.MULTILINE)
        case _:
            assert program in OTHER_PROGRAMS, f"an unknown program: {program}"


def test_commands_within_sentences_exist():
    codes = inline_codes()
    targets = {match[1] for code in codes if (match := re.fullmatch(r"make (\w+)", code))}
    assert {"run", "test"} <= targets <= make_targets()
    options = load_command_class("calls", "simulatecall").create_parser("manage.py", "simulatecall")
    for code in codes:
        words = code.removeprefix(".venv/bin/python ").split()
        if words[0] == "manage.py" and words[1] != "simulatecall":
            check_management_command(*words[1:])
        elif words[0].startswith("--") and words[0] in ("--client", "--calls", "--json", "--help"):
            assert words[0] in options.format_help()


def test_the_readmes_speech_command_makes_speech(tmp_path):
    commands = [words for words in shell_commands() if words[0].endswith("hibari")]
    subprocess.run([BIN / "hibari", *commands[0][1:]], cwd=tmp_path, check=True, capture_output=True)
    spoken = next(words for words in shell_commands() if "simulatecall" in words)[3]
    assert len(read_wav(tmp_path / spoken)) > protocol.BYTES_PER_SECOND


# --- Settings ---------------------------------------------------------------------------------------------


def variables():
    """The variables that the settings read, with their default if that is a literal (else None)."""
    found = {}
    for node in ast.walk(ast.parse((ROOT / "voiceagent" / "settings.py").read_text())):
        match node:
            case ast.Call(ast.Attribute(ast.Name("env")), [ast.Constant(name)], keywords):
                defaults = [word.value for word in keywords if word.arg == "default"]
                found[name] = None
                if defaults and isinstance(defaults[0], ast.Constant | ast.List):
                    value = ast.literal_eval(defaults[0])
                    found[name] = "" if value == [] else str(value).lower() if value is False else str(value)
    return found


def example():
    """The variables of `.env.example` with their values."""
    return dict(re.findall(r"^#([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))


def test_the_example_lists_every_variable_with_its_default():
    known, shown = variables(), example()
    assert shown.keys() == known.keys()
    assert {name: shown[name] for name in known if known[name] is not None} == {
        name: default for name, default in known.items() if default is not None
    }


def test_each_variable_of_the_example_has_its_line():
    lines = (ROOT / ".env.example").read_text().splitlines()
    assert not [
        line for before, line in pairwise(lines)
        if re.match(r"#[A-Z]", line) and not re.match(r"# \S.*\S", before)
    ]  # fmt: skip
    assert not [line for line in lines if line and not line.startswith("#")]


def test_the_examples_values_are_accepted(tmp_path):
    text = re.sub(r"^#(?=[A-Z])", "", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)
    (tmp_path / "env").write_text(text)
    subprocess.run(
        [sys.executable, ROOT / "manage.py", "check"],
        env={"PATH": os.environ["PATH"], "ENV_FILE": str(tmp_path / "env"), "DATA_DIR": str(tmp_path)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )


def test_documents_and_examples_name_existing_settings():
    in_blocks = {name for block in blocks("ini") for name in re.findall(r"^([A-Z_]+)=", block, re.MULTILINE)}
    in_prose = {
        code.partition("=")[0] for code in inline_codes() if re.fullmatch(r"[A-Z]+_[A-Z_]+(=.*)?", code)
    }
    in_deploy = {
        name for path in DEPLOY for name in re.findall(r"\b([A-Z]+_[A-Z]+)\b(?==)", path.read_text())
    }
    assert {"SECRET_KEY", "ALLOWED_HOSTS"} <= in_blocks
    assert in_blocks | in_prose | in_deploy - {"DEBIAN_FRONTEND"} <= variables().keys()


def test_the_service_and_the_proxy_fit_the_server():
    service = configparser.ConfigParser(strict=False, interpolation=None)
    service.optionxform = str
    service.read(ROOT / "deploy" / "voiceagent.service")
    assert service["Service"]["ExecStart"].endswith("/.venv/bin/python manage.py serve")
    proxy = (ROOT / "deploy" / "nginx.conf").read_text()
    assert f"location = /{WEBSOCKET_PATH}" in proxy
    headers = ("Host $host", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme")
    for header in headers:
        # nginx takes none of the server's headers into a location that sets one of its own.
        assert proxy.count(f"proxy_set_header {header};") == 2


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
    assert config["audio"]["sample_rate"] == protocol.SAMPLE_RATE
    url = urlsplit(config["server_url"])
    assert url.port == settings.PORT
    assert url.path == f"/{WEBSOCKET_PATH}"


# --- The protocol -----------------------------------------------------------------------------------------

PROTOCOL = DOCS / "protocol.md"


def messages():
    return [json.loads(line) for block in blocks("json", PROTOCOL) for line in block.splitlines()]


def test_the_clients_messages_are_understood():
    commands = [message for message in messages() if "command" in message]
    decoded = {type(protocol.decode_text(json.dumps(message))) for message in commands}
    assert decoded == set(get_args(protocol.ClientMessage))
    assert {cells[0] for cells in rows(PROTOCOL, "What the client sends")} == {m["command"] for m in commands}


def test_the_servers_messages_are_those_it_sends():
    classes = {kind.type: kind for kind in protocol.Timed.__subclasses__()}
    shown = {message["type"]: message for message in messages() if "type" in message}
    assert shown.keys() == {*classes, "audio"}
    for name, kind in classes.items():
        assert shown[name].keys() == {"type", *(field.name for field in fields(kind))}
    assert json.loads(protocol.encode_audio(bytes([0, 0, 1, 0]), "1")) == shown["audio"]
    assert {cells[0] for cells in rows(PROTOCOL, "What the server sends")} == shown.keys()
    assert shown["connected"]["version"] == voiceagent.__version__


def test_every_error_code_and_ending_is_explained():
    assert {int(cells[0]) for cells in rows(PROTOCOL, "Errors")} == {int(code) for code in protocol.ErrorCode}
    endings = rows(PROTOCOL, "How a connection ends")
    assert {cells[2] for cells in endings} | {"crash"} == set(EndReason.values)
    ours = {CONSUMERS[name] for name in ("NORMAL", "GOING_AWAY", "ABUSE", "INTERNAL")}
    assert {int(cells[0]) for cells in endings} == {*ours, 1009}


def test_the_parameters_of_the_url_are_those_read():
    source = (ROOT / "calls" / "consumers.py").read_text() + (ROOT / "calls" / "access.py").read_text()
    read = set(re.findall(r'(?:_query|query_of\(scope\))\.get\("(\w+)"', source))
    shown = {name for cells in rows(PROTOCOL, "The URL") for name in cells[0].split(", ")}
    in_readme = {
        name for cells in rows(README, "Connect RustPBX") for name in re.findall(r"(\w+)=", cells[0])
    }
    assert shown == in_readme == read


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


def test_the_limits_are_those_of_the_code():
    due = CALL["DUE_S"]
    figures = [
        f"{limits.MESSAGES_PER_S:.0f} a second, {limits.MESSAGES_AT_ONCE:.0f} at once",
        f"{limits.AUDIO_AT_ONCE_S:.0f} s at once",
        f"{CONSUMERS['CONFIGURES_AT_ONCE']} at once",
        f"{limits.ABUSE_AFTER:,}, {limits.FORGIVEN_PER_S:.0f} a second forgiven",
        f"{protocol.MAX_BINARY_BYTES // 1024} KB",
        f"{CONSUMERS['OUTBOX_MESSAGES']} unread messages, or {SERVER['NOT_READING_S']:.0f} s",
        f"{CONSUMERS['IDLE_S']:.0f} s without any message",
        f"words {due['stt']:.0f} s, model {due['llm']:.0f} s, voice {due['tts']:.0f} s",
        f"{protocol.MAX_NAME_CHARS} characters",
    ]
    text = "\n".join(" ".join(cells) for cells in rows(DOCS / "operations.md", "Limits"))
    assert not [figure for figure in figures if figure not in text]


def test_what_the_log_says_is_quoted_as_it_is():
    source = "".join(path.read_text() for path in (ROOT / "calls").rglob("*.py"))
    for cells in rows(DOCS / "operations.md", "Logs"):
        if not cells[0].startswith("call …"):
            assert cells[0] in source, cells[0]
    assert f"more than {recorder.MOST_ROWS:,} rows" in (DOCS / "operations.md").read_text()


def test_the_pages_named_exist():
    paths = {code for code in inline_codes() if re.fullmatch(r"/[a-z/]+", code)} - {"/ws/rustpbx"}
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
