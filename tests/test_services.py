"""The product's settings on a real PostgreSQL and a real Redis."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import psycopg
from channels_redis.core import RedisChannelLayer

ROOT = Path(__file__).resolve().parent.parent

SEND_TO_GROUP = """
import django
django.setup()
from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
async_to_sync(get_channel_layer().group_send)("calls", {"type": "call.started", "call": "7"})
"""


def product(*arguments: str, data_dir: Path, **environment: str) -> str:
    """Run Python with the product's settings in a fresh environment and return what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "voiceagent.settings",
            "ENV_FILE": os.devnull,
            "DATA_DIR": str(data_dir),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_migrations_run_on_postgresql(postgres_url, tmp_path):
    """Every migration applies, and none is left."""
    product("manage.py", "migrate", "--noinput", data_dir=tmp_path, DATABASE_URL=postgres_url)
    product("manage.py", "migrate", "--check", data_dir=tmp_path, DATABASE_URL=postgres_url)

    with psycopg.connect(postgres_url) as connection:
        (apps,) = connection.execute("SELECT array_agg(DISTINCT app) FROM django_migrations").fetchone()
        (groups,) = connection.execute("SELECT array_agg(name) FROM auth_group").fetchone()
    assert {"auth", "sessions", "contenttypes"} <= set(apps)
    assert {"Admins", "Analysts"} <= set(groups)
    assert not (tmp_path / "voiceagent.sqlite3").exists()


async def test_group_messages_cross_processes_through_redis(redis_url, tmp_path):
    """A group message sent under `REDIS_URL` by one process reaches a channel of another."""
    layer = RedisChannelLayer(hosts=[redis_url])
    try:
        channel = await layer.new_channel()
        await layer.group_add("calls", channel)
        await asyncio.to_thread(product, "-c", SEND_TO_GROUP, data_dir=tmp_path, REDIS_URL=redis_url)

        message = await asyncio.wait_for(layer.receive(channel), timeout=30)
        assert message == {"type": "call.started", "call": "7"}
    finally:
        await layer.flush()
        await layer.close_pools()
