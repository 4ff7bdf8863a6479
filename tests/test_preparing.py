"""One process prepares at a time."""

import os
import subprocess
import sys
import threading
import time

import psycopg
import pytest
from django.core.files import locks

from calls import preparing
from tests.e2e.server import ROOT
from voiceagent import settings as the_settings

STARTED_S = 60


def prepare(folder, **environment):
    """`manage.py prepare` in a process of its own, with its output as it comes."""
    return subprocess.Popen(
        [sys.executable, "-u", "manage.py", "prepare"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENV_FILE": os.devnull, "DATA_DIR": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_two_that_start_for_the_first_time_on_postgresql(postgres_url, tmp_path):
    """Each has a folder of its own, as on two machines."""
    address, _, _ = postgres_url.rpartition("/")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE first_start")
    url = f"{address}/first_start"
    both = [prepare(tmp_path / name, DATABASE_URL=url) for name in ("a", "b")]
    said = [process.communicate(timeout=STARTED_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(text.count("User admin") for text in said) == 1
    assert sum(text.count("waiting for it") for text in said) == 1
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM auth_user").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM calls_promptprofile").fetchone() == (1,)


def test_it_waits_for_another_one_and_goes_on(tmp_path):
    with (tmp_path / "prepare.lock").open("w") as file:
        locks.lock(file, locks.LOCK_EX)
        process = prepare(tmp_path)
        assert process.stdout.readline() == "Another process prepares the database: waiting for it.\n"
        assert not (tmp_path / "voiceagent.sqlite3").exists()
    said, _ = process.communicate(timeout=STARTED_S)
    assert process.returncode == 0
    assert "User admin" in said


def test_it_does_not_wait_for_ever(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(preparing, "WAIT_S", 0.2)
    settings.DATA_DIR = tmp_path
    told = []
    with (
        preparing.alone(lambda: told.append("first")),
        pytest.raises(preparing.StillLocked, match="for 0 s"),
        preparing.alone(lambda: told.append("second")),
    ):
        pytest.fail("two at once")
    assert told == ["second"]
    with preparing.alone(lambda: told.append("third")):
        assert told == ["second"]


def test_nobody_reads_half_a_secret_key(tmp_path, monkeypatch):
    """Of processes that make one at the same time all use the same."""
    make_key = the_settings.get_random_secret_key

    def make_slowly():
        time.sleep(0.1)
        return make_key()

    monkeypatch.setattr(the_settings, "DATA_DIR", tmp_path)
    monkeypatch.setattr(the_settings, "get_random_secret_key", make_slowly)
    keys = []
    threads = [
        threading.Thread(target=lambda: keys.append(the_settings._local_secret_key())) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys[0]) == 50
    assert set(keys) == {keys[0]}
    assert [path.name for path in tmp_path.iterdir()] == ["secret_key"]
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
