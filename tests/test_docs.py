"""The documents lead somewhere: links, pictures, commands and settings are held against the project."""

import ast
import configparser
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import granian.cli
import pytest
import uvicorn
from django.core.management import get_commands, load_command_class

from tests.documents import (
    DEPLOY,
    DOCS,
    DOCUMENTS,
    ROOT,
    WEBSOCKET_PATH,
    blocks,
    inline_codes,
    prose,
)

BIN = Path(sys.executable).parent
OTHER_PROGRAMS = {"curl", "pg_dump"}

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
        assert picture.read_bytes().startswith((b"\x89PNG", b"<svg"))
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
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


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
    targets = {match[1] for code in codes if (match := re.fullmatch(r"make ([\w-]+)", code))}
    assert {"run", "test"} <= targets <= make_targets()
    options = load_command_class("calls", "simulatecall").create_parser("manage.py", "simulatecall")
    for code in codes:
        words = code.removeprefix(".venv/bin/python ").split()
        if words[0] == "manage.py" and words[1] != "simulatecall":
            check_management_command(*words[1:])
        elif words[0].startswith("--") and words[0] in ("--client", "--calls", "--json", "--help"):
            assert words[0] in options.format_help()


def test_the_first_call_of_the_readme_is_one_that_can_be_made():
    shown = subprocess.run(["make", "-n", "call"], cwd=ROOT, capture_output=True, text=True, check=True)
    (command,) = [shlex.split(line) for line in shown.stdout.splitlines() if "simulatecall" in line]
    check_python(command[1:])


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
    (sockets,) = re.findall(r"location ~ (\S+) \{", proxy)
    assert re.search(sockets, f"/{WEBSOCKET_PATH}")
    assert re.search(sockets, "/ws/try/")
    assert not re.search(sockets, "/ws/commands")
    headers = ("Host $host", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme")
    for header in headers:
        # nginx takes none of the server's headers into a location that sets one of its own.
        assert proxy.count(f"proxy_set_header {header};") == 2
