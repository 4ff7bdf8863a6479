"""Imports run down only: what sits low knows nothing of what sits above it."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Module (or package) of calls: what of the project it may import. Longest name wins.
ALLOWED = {
    "calls.apps": {"calls.checks"},
    "calls.checks": set(),
    "calls.protocol": set(),
    "calls.beat": set(),
    "calls.niceness": set(),
    "calls.pump": {"calls.beat"},
    "calls.limits": set(),
    "calls.access": set(),
    "calls.events": set(),
    "calls.models": set(),
    "calls.timeline": {"calls.models"},
    "calls.templatetags": {"calls.models", "calls.timeline"},
    "calls.simulator": set(),
    "calls.providers": {"calls.niceness"},
    "calls.pipeline": {"calls.beat", "calls.niceness", "calls.protocol", "calls.providers"},
    "calls.recorder": {"calls.models", "calls.events"},
    "calls.profiles": {"calls.models"},
    "calls.call": {
        "calls.models", "calls.pipeline", "calls.profiles", "calls.protocol", "calls.providers",
        "calls.recorder",
    },
    "calls.consumers": {
        "calls.access", "calls.call", "calls.limits", "calls.models", "calls.pipeline", "calls.profiles",
        "calls.protocol", "calls.pump", "calls.recorder", "calls.websocket", "voiceagent",
    },
    "calls.routing": {"calls.access", "calls.consumers"},
    "calls.lifespan": {
        "calls.consumers", "calls.models", "calls.pipeline", "calls.providers", "calls.recorder",
    },
    "calls.eventloop": set(),
    "calls.websocket": set(),
    "calls.server": {"calls.eventloop", "calls.lifespan", "calls.websocket"},
    "calls.health": {"calls.models", "calls.providers"},
    "calls.forms": {"calls.models", "calls.providers"},
    "calls.admin": {"calls.models", "calls.forms"},
    "calls.views": {"calls.models", "calls.forms", "calls.events", "calls.health", "calls.timeline"},
    "calls.urls": {"calls.views", "calls.health"},
    "calls.management": {"calls.models", "calls.server", "calls.simulator", "voiceagent"},
    "calls.migrations": {"calls.models"},
    "voiceagent": {"calls.lifespan", "calls.routing", "calls.urls"},
}  # fmt: skip
FRAMEWORKS = {
    "calls.protocol": {"django", "channels", "pipecat", "asyncio"},
    "calls.pump": {"django", "channels", "pipecat", "asyncio"},
    "calls.limits": {"django", "channels", "pipecat", "asyncio"},
    "calls.websocket": {"django", "channels", "pipecat", "asyncio"},
    "calls.pipeline": {"django.db", "channels"},
    "calls.consumers": {"django.db"},
    "calls.simulator": {"django", "channels", "pipecat"},
}


def modules():
    for folder in ("calls", "voiceagent"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imported(module, path):
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def within(name, places):
    return next(
        (place for place in sorted(places, key=len, reverse=True) if f"{name}.".startswith(f"{place}.")), None
    )


def test_every_import_within_the_project_runs_down():
    wrong = []
    for module, path in modules():
        home = within(module, ALLOWED)
        if home is None:
            if module != "calls":
                wrong.append(f"{module} has no place in ALLOWED")
            continue
        for name in imported(module, path):
            if within(name, ["calls", "voiceagent"]) is None:
                continue
            if within(name, [home, *ALLOWED[home]]) is None:
                wrong.append(f"{module} imports {name}")
    assert not wrong


def test_pure_modules_stay_free_of_frameworks():
    wrong = [
        f"{module} imports {name}"
        for module, path in modules()
        if (home := within(module, FRAMEWORKS))
        for name in imported(module, path)
        if within(name, FRAMEWORKS[home])
    ]
    assert not wrong


def test_only_the_settings_read_the_environment():
    entry_points = {"voiceagent.settings", "voiceagent.asgi"}  # the latter names the settings module
    readers = {module for module, path in modules() if re.search(r"os\.environ|getenv", path.read_text())}
    assert readers <= entry_points
