"""Imports run down only, and never in a circle: what sits low knows nothing of what sits above it."""

import ast
import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# The floors of the house, the highest first. A room imports rooms of lower floors only.
FLOORS = [
    {"calls.management"},
    {"calls.filling"},
    {"voiceagent.urls", "voiceagent.asgi"},
    {"calls.gateway.server"},
    {"calls.urls", "calls.routing", "calls.apps"},
    {"calls.consumers", "calls.pages", "calls.admin", "calls.templatetags"},
    {"calls.checks", "calls.gateway"},
    {"calls.conversation"},
    {"calls.pipeline"},
    {"calls.rustpbx", "calls.recorder"},
    {"calls.profiles"},
    {"calls.providers"},
    {"calls.migrations"},
    {"calls.models"},
    {
        "calls.audio",
        "calls.database",
        "calls.events",
        "calls.outage",
        "calls.preparing",
        "calls.process",
        "calls.redaction",
        "calls.tasks",
        "calls.text",
    },
    {"calls.simulator", "voiceagent", "voiceagent.settings"},
]
ROOMS = {room: len(FLOORS) - n for n, rooms in enumerate(FLOORS) for room in rooms}
# Module or package: frameworks it stays free of.
FRAMEWORKS = {
    "calls.audio": {"django", "channels", "pipecat"},
    "calls.rustpbx.codec": {"django", "channels", "pipecat", "asyncio"},
    "calls.rustpbx.messages": {"django", "channels", "pipecat", "asyncio"},
    "calls.rustpbx.pacer": {"django", "channels", "pipecat", "asyncio"},
    "calls.gateway": {"pipecat"},
    "calls.gateway.limits": {"django", "channels", "pipecat", "asyncio"},
    "calls.gateway.server.frames": {"django", "channels", "pipecat", "asyncio"},
    "calls.gateway.connection": {"django.db", "pipecat"},
    "calls.conversation": {"django.db", "channels", "pipecat"},
    "calls.pipeline": {"django.db", "channels"},
    "calls.pipeline.features": {"pipecat", "asyncio"},
    "calls.pipeline.silero": {"pipecat"},
    "calls.rustpbx": {"django.db", "pipecat"},
    "calls.recorder": {"pipecat"},
    "calls.profiles": {"pipecat"},
    "calls.models": {"channels", "pipecat"},
    "calls.pages": {"pipecat"},
    "calls.admin": {"channels", "pipecat"},
    "calls.redaction": {"django", "channels", "pipecat", "asyncio"},
    "calls.simulator": {"django", "channels", "pipecat"},
    "calls.text": {"django", "channels", "pipecat", "asyncio"},
}


def modules():
    for folder in ("calls", "voiceagent"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


MODULES = dict(modules())


def imported(module, path):
    """What a module imports, by full name: `from a import b` is a.b."""
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
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (name.value for name in node.args[:1] if isinstance(name, ast.Constant))


def within(name, places):
    """The longest of the places that `name` is or lies in."""
    return max((place for place in places if f"{name}.".startswith(f"{place}.")), key=len, default=None)


def dependencies():
    """Every pair of a module and a module of the project that it imports."""
    for module, path in MODULES.items():
        for name in imported(module, path):
            if (target := within(name, MODULES)) and target != module:
                yield module, target


def circle(graph):
    """The names of one circle in the graph, or []."""
    done, path = set(), []

    def visit(node):
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        path.append(node)
        for following in sorted(graph.get(node, ())):
            if found := visit(following):
                return found
        path.pop()
        done.add(node)
        return []

    return next((found for node in sorted(graph) if (found := visit(node))), [])


def graph_of(pairs):
    graph = {}
    for source, target in pairs:
        if source != target:
            graph.setdefault(source, set()).add(target)
    return graph


def test_every_module_has_a_room_and_every_import_runs_down():
    assert {module for module in MODULES if module != "calls" and within(module, ROOMS) is None} == set()
    wrong = [
        f"{source} imports {target}"
        for source, target in dependencies()
        if (rooms := (within(source, ROOMS), within(target, ROOMS)))[0] != rooms[1]
        and ROOMS[rooms[0]] <= ROOMS[rooms[1]]
    ]
    assert not wrong


def test_imports_are_found_in_every_form(tmp_path):
    module = tmp_path / "module.py"
    module.write_text(
        "import a.b, c\nfrom d import e\nfrom . import f\nfrom .g import h\n"
        "importlib.import_module('i.j')\nimport_module('k')\nimport_module(name)\n"
    )
    assert {*imported("room.module", module)} == {"a.b", "c", "d.e", "room.f", "room.g.h", "i.j", "k"}


def test_no_modules_import_each_other_in_a_circle():
    parents = {source: {target for target in targets if not source.startswith(f"{target}.")}
               for source, targets in graph_of(dependencies()).items()}  # fmt: skip
    assert circle(parents) == []


def test_no_packages_import_each_other_in_a_circle():
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"} - {"calls"}
    pairs = [(within(source, packages), within(target, packages)) for source, target in dependencies()]
    apart = [
        (source, target)
        for source, target in pairs
        if source and target and not f"{source}.".startswith(f"{target}.")
    ]
    assert circle(graph_of(apart)) == []


def test_a_circle_is_found():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == []


def test_rooms_stay_free_of_frameworks():
    wrong = [
        f"{module} imports {name}"
        for module, path in MODULES.items()
        for name in imported(module, path)
        for room, banned in FRAMEWORKS.items()
        if within(module, [room]) and within(name, banned)
    ]
    assert not wrong


def test_every_room_says_what_it_is_for():
    """A newcomer reads the tree and the first line of each package."""
    packages = [path for path in MODULES.values() if path.name == "__init__.py"]
    nameless = {"management", "commands", "migrations"}  # Django's own doors
    silent = [
        str(path.relative_to(ROOT))
        for path in packages
        if path.parent.name not in nameless and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_every_module_answers_one_question():
    """And can be read at one sitting."""
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    long = {module: n for module, n in lengths.items() if n > 300 and ".migrations." not in module}
    assert not long


def test_floors_are_listed_once():
    rooms = [room for floor in FLOORS for room in floor]
    assert len(rooms) == len(set(rooms))
    assert all(a and b for a, b in pairwise(FLOORS))


def test_only_the_settings_read_the_environment():
    entry_points = {"voiceagent.settings", "voiceagent.asgi"}  # the latter names the settings module
    readers = {
        module for module, path in MODULES.items() if re.search(r"os\.environ|getenv", path.read_text())
    }
    assert readers <= entry_points
