"""What the project uses of other libraries that is not theirs to keep: here an upgrade shows what changed."""

import ast
import importlib
import inspect
import re
import textwrap

import pytest
from autobahn.twisted.websocket import WebSocketAdapterProtocol
from autobahn.websocket.protocol import WebSocketProtocol
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol as DaphneProtocol
from twisted.internet.abstract import FileDescriptor
from twisted.internet.tcp import Connection

from tests.documents import DOCS, ROOT, rows

# Django's model API, which its documentation uses; the standard library's types, and what it documents.
DOCUMENTED = {"_meta", "_state", "_base_manager", "_typeshed", "_replace", "_exit"}
PRIVATE = {
    "calls/gateway/server/daphne.py": {"_dataReceived", "_perMessageCompress", "_tempDataBuffer"},
    "calls/providers/cloud.py": {"_websocket_connect", "_process_response"},
    "calls/providers/local/llm.py": {"_client", "_settings", "_update_settings"},
    "calls/providers/local/stt.py": {"_user_id"},
}


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and name not in DOCUMENTED


def of_its_own(tree):
    """Private names that a module defines itself, overrides of a base's excepted."""
    own = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
                own.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                own.add(name)
    return own - of_a_base(tree)


def of_a_base(tree):
    """Private methods that call the one they override."""
    return {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
        and isinstance(node.func.value.func, ast.Name)
        and node.func.value.func.id == "super"
        and is_private(node.func.attr)
    }


def found():
    """By module of the project, the private names of others that it uses or imports."""
    names = {}
    for path in sorted((ROOT / "calls").rglob("*.py")):
        tree = ast.parse(path.read_text())
        own = of_its_own(tree)
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("calls"):
                used |= {alias.name for alias in node.names} | set((node.module or "").split("."))
        if private := {name for name in used if is_private(name)} - own:
            names[str(path.relative_to(ROOT))] = private
    return names


def test_what_is_used_is_known():
    assert found() == PRIVATE


def test_what_is_used_is_listed():
    shown = {}
    for cells in rows(DOCS / "development.md", "Private parts"):
        shown.setdefault(cells[0], set()).update(re.findall(r"\b_\w+", cells[1]))
    assert shown == PRIVATE


def source(thing):
    """The code of a function without its docstring and comments, as Python reads it."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(thing)))
    return ast.unparse(tree)


def test_autobahn_takes_data_as_the_short_way_for_audio_expects():
    """`CallProtocol.dataReceived` stands in for one that logs and hands on."""
    assert (
        source(WebSocketAdapterProtocol.dataReceived).splitlines()[-1].strip() == "self._dataReceived(data)"
    )
    parser = source(WebSocketProtocol._dataReceived)
    assert "self.data" in parser
    assert "self.consumeData()" in parser
    for attribute in ("current_frame", "inside_message", "_perMessageCompress", "autoPingTimeoutCall"):
        assert f"self.{attribute}" in inspect.getsource(WebSocketProtocol), attribute


def test_autobahn_closes_with_any_code():
    assert list(inspect.signature(WebSocketProtocol.sendCloseFrame).parameters)[:4] == [
        "self", "code", "reasonUtf8", "isReply",
    ]  # fmt: skip


def test_daphne_takes_and_sends_messages_as_ours_does():
    taken = source(DaphneProtocol.onMessage)
    for part in ("self.muted", "self.last_ping = time.time()", "self.application_queue.put_nowait"):
        assert part in taken
    sent = source(DaphneProtocol.serverSend)
    assert "self.sendMessage(content, binary)" in sent
    assert list(inspect.signature(DaphneProtocol.serverSend).parameters) == ["self", "content", "binary"]


def test_daphne_ends_its_applications_when_it_stops():
    """`CallServer.kill_all_applications` ends the calls before; the reactor waits for what it returns."""
    assert "self.kill_all_applications" in inspect.getsource(Server.run)
    assert "addSystemEventTrigger" in inspect.getsource(Server.run)
    assert "ws_factory" in inspect.getsource(Server.run)


def test_twisted_keeps_unsent_data_where_ours_looks():
    descriptor = FileDescriptor(reactor=object())
    assert descriptor.dataBuffer == b""
    assert descriptor._tempDataBuffer == []
    assert "dataBuffer" in source(FileDescriptor.doWrite)
    assert list(inspect.signature(Connection.writeSomeData).parameters) == ["self", "data"]


@pytest.mark.parametrize(
    ("module", "name", "method", "parameters"),
    [
        ("pipecat.services.cartesia.stt", "CartesiaSTTService", "_websocket_connect", ["uri"]),
        ("pipecat.services.cartesia.tts", "CartesiaTTSService", "_websocket_connect", ["uri"]),
        ("pipecat.services.cartesia.stt", "CartesiaSTTService", "_process_response", ["data"]),
        ("pipecat.services.openai.llm", "OpenAILLMService", "_update_settings", ["delta"]),
    ],
)
def test_pipecats_services_call_what_ours_override(module, name, method, parameters):
    service = getattr(importlib.import_module(module), name)
    overridden = getattr(service, method)
    assert inspect.iscoroutinefunction(overridden)
    assert list(inspect.signature(overridden).parameters)[1 : 1 + len(parameters)] == parameters
    callers = "".join(inspect.getsource(base) for base in service.__mro__ if base.__module__ != "builtins")
    assert f"self.{method}(" in callers


@pytest.mark.parametrize(
    ("module", "name", "attribute"),
    [
        ("pipecat.services.openai.llm", "OpenAILLMService", "_client"),
        ("pipecat.services.openai.llm", "OpenAILLMService", "_settings"),
        ("pipecat.services.stt_service", "STTService", "_user_id"),
    ],
)
def test_pipecats_services_set_what_ours_read(module, name, attribute):
    service = getattr(importlib.import_module(module), name)
    code = "".join(inspect.getsource(base) for base in service.__mro__ if base.__module__ != "builtins")
    assert re.search(rf"self\.{attribute}\b[^=\n]*= ", code)
