"""The settings: whose value counts, and which ones a server refuses to start without."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.documents import ROOT

SHOWN = "import json; from voiceagent import settings as s; print(json.dumps([s.PORT, s.TIME_ZONE]))"
SECRETS = {"SECRET_KEY": "s", "ALLOWED_HOSTS": "agent.example.org", "STREAM_TOKENS": "t"}


def complaint(folder, **environment):
    """The last line of what a process that reads the settings says."""
    done = subprocess.run(
        [sys.executable, "-c", "import voiceagent.settings"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DATA_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert bool(done.returncode) == bool(done.stderr)
    return (done.stderr.splitlines() or [""])[-1]


@pytest.mark.parametrize("missing", [{*SECRETS}, {"SECRET_KEY", "STREAM_TOKENS"}, {"STREAM_TOKENS"}, set()])
def test_everything_that_is_missing_is_told_at_once(tmp_path, missing):
    given = {name: value for name, value in SECRETS.items() if name not in missing}
    told = complaint(tmp_path, HOST="192.0.2.1", **given)
    assert {name for name in SECRETS if f"{name} (" in told} == missing
    if missing:
        assert "As other machines reach HOST=192.0.2.1, these must be set: " in told


def test_production_on_this_machine_only_needs_no_token(tmp_path):
    told = complaint(tmp_path, PRODUCTION="true")
    assert "As PRODUCTION is true, these must be set: SECRET_KEY (" in told
    assert "STREAM_TOKENS" not in told
    assert complaint(tmp_path, PRODUCTION="true", SECRET_KEY="s", ALLOWED_HOSTS="localhost") == ""


HSTS = (
    "import json; from voiceagent import settings as s;"
    " print(json.dumps([s.SECURE_HSTS_SECONDS, s.SECURE_HSTS_INCLUDE_SUBDOMAINS, s.SECURE_HSTS_PRELOAD]))"
)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, [31536000, False, False]),
        ({"HSTS_INCLUDE_SUBDOMAINS": "true", "HSTS_PRELOAD": "true"}, [31536000, True, True]),
        ({"HTTPS": "false"}, [0, False, False]),
    ],
)
def test_browsers_insist_on_https_for_this_name_only_unless_asked(tmp_path, asked, told):
    """What is under the name, and the lists that browsers ship, is not this server's to decide."""
    environment = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DATA_DIR": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-c", HSTS],
        cwd=ROOT,
        env=environment | SECRETS | {"PRODUCTION": "true"} | asked,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == told


@pytest.mark.parametrize("named", [False, True], ids=["beside manage.py", "named by ENV_FILE"])
def test_the_operating_systems_environment_beats_the_file(tmp_path, named):
    """What only the file says is taken from there."""
    shutil.copytree(ROOT / "voiceagent", tmp_path / "voiceagent")
    file = tmp_path / ("another" if named else ".env")
    file.write_text("PORT=1111\nTIME_ZONE=Asia/Tokyo\n")
    environment = {"PATH": os.environ["PATH"], "PORT": "2222"} | ({"ENV_FILE": str(file)} if named else {})
    shown = subprocess.run(
        [sys.executable, "-c", SHOWN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(shown.stdout) == [2222, "Asia/Tokyo"]
