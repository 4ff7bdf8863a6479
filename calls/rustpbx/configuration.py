"""The files that connect a RustPBX with us, ready to be copied. No I/O."""

import base64
import json
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit, urlunsplit

from calls.rustpbx.ivr import SOCKET_PATH

UNSEEN = "the token that you have"  # of a token that only its hash is kept of
NUMBER = "agent"  # what callers dial in the example


@dataclass(frozen=True, slots=True)
class Facts:
    """What the files depend on. A token is UNSEEN if it cannot be shown."""

    agent_url: str
    return_target: str
    ivr_token: str = UNSEEN
    api_token: str = UNSEEN
    rwi_token: str = UNSEEN
    pbx: int = 0


@dataclass(frozen=True, slots=True)
class File:
    """A file of the PBX's: where it lies there, what it is for, and its text."""

    path: str
    purpose: str
    text: str

    @property
    def name(self) -> str:
        """Its name alone, for a download."""
        return self.path.rpartition("/")[2].partition(" ")[0]

    @property
    def url(self) -> str:
        """The file itself as a URL."""
        return f"data:text/plain;charset=utf-8;base64,{base64.b64encode(self.text.encode()).decode()}"


def of_bridge(facts: Facts) -> list[File]:
    """The files of RustPBX 0.5 and later."""
    bearer = _quoted(f"Bearer {facts.ivr_token}")
    path = f"config/ivr/{facts.return_target}.toml"
    ivr = f"""\
[ivr]
name = {_quoted(facts.return_target)}
ivr_mode = "step"

[ivr.provider]
url = {_quoted(facts.agent_url + "/rustpbx/ivr")}
headers = {{ Authorization = {bearer} }}
max_retries = 2
retry_delay_ms = 200
timeout_secs = 3
"""
    rest = f"""\
# Which calls the agent answers: here those to "{NUMBER}". The table "match" has to come last.
[[proxy.routes]]
name = {_quoted(facts.return_target)}
priority = 10
app = "ivr"
app_params = {{ file = {_quoted(path)} }}
[proxy.routes.match]
"to.user" = "{NUMBER}"

# Tells the agent that a call has ended, and by whom.
[rwi_webhook]
url = {_quoted(facts.agent_url + "/rustpbx/webhook")}
headers = {{ Authorization = {bearer} }}
events = ["call_hangup"]

{_tokens("console.api_tokens", facts.api_token, ["call", "session"], "hang up if all else fails")}
[rwi]
enabled = true
{_tokens("rwi.tokens", facts.rwi_token, ["call.control"], "get back a caller whose audio did not connect")}"""
    return [
        File(path, "How RustPBX asks the agent what to do with a call.", ivr),
        File("config.toml (add this)", "Routes, tokens, and what RustPBX tells the agent.", rest),
    ]


def _tokens(table: str, token: str, scopes: list[str], what: str) -> str:
    """A token of the PBX's own; of one that cannot be shown, what is there already has to stay."""
    if token == UNSEEN:
        return f"# [[{table}]] stays as it is: it lets the agent {what}.\n"
    lines = (f"# Lets the agent {what}.", f"[[{table}]]", f"token = {_quoted(token)}")
    return "\n".join([*lines, f"scopes = {json.dumps(scopes)}\n"])


def of_fork(facts: Facts) -> list[File]:
    """The file of the fork. Its token is one of STREAM_TOKENS, which only a PBX elsewhere needs."""
    parts = urlsplit(facts.agent_url)
    scheme = "wss" if parts.scheme == "https" else "ws"
    query = urlencode({"pbx": facts.pbx, "token": "one of STREAM_TOKENS"})
    url = urlunsplit((scheme, parts.netloc, parts.path + SOCKET_PATH, query, ""))
    text = f"""\
[pipecat]
enabled = true
server_url = {_quoted(url)}
use_for_ai = true
fallback_to_internal = true
connection_timeout = 3
default_system_prompt = ""
enable_metrics = true
debug_logging = false

[pipecat.reconnect]
enabled = true
max_attempts = 5
initial_delay = 1
max_delay = 30
backoff_multiplier = 2.0

[pipecat.audio]
sample_rate = 16000
channels = 1
frame_size = 160
buffer_size = 10
enable_compression = false
encoding = "linear16"
"""
    return [File("config.toml (in place of all [pipecat…])", "How the fork reaches the agent.", text)]


def _quoted(text: str) -> str:
    """A basic string of TOML, which is written as JSON's are."""
    return json.dumps(text)
