"""Messages for `/ws/rustpbx`, as frames: those of every client generation, and every kind of bad ones."""

import json
import struct
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

FIELDS = [
    "command",
    "room_id",
    "system_prompt",
    "stt_config",
    "llm_config",
    "tts_config",
    "profile",
    "caller",
    "callee",
    "metadata",
    "timestamp",
    "reason",
    "audio_data",
    "sample_rate",
    "channels",
    "frame_id",
    "other",
    "__class__",
    "",
]
COMMANDS = ["configure", "ping", "disconnect", "audio"]
MOST_QUERY = 4_000  # characters; a request line of 16 KB is cut off by Twisted, without an answer
LIMIT = 65_536  # bytes a message, of text or of audio

NULL_CONFIGS: dict[str, Any] = {"stt_config": None, "llm_config": None, "tts_config": None}
CONFIGS: dict[str, Any] = {
    "stt_config": {"sample_rate": 16000, "language": "en", "model": "nova"},
    "llm_config": {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
    "tts_config": {"model": "aura-asteria-en", "sample_rate": 16000, "encoding": "linear16"},
}


@dataclass(frozen=True)
class Session:
    """One connection: the query string of its URL, and its frames as bytes on the wire.

    `settles` if the call is set up before the second frame goes out; `ends` if the last may be where either
    side stops: a goodbye, or bytes that are no frame.
    """

    query: str
    frames: tuple[bytes, ...]
    settles: bool = False
    ends: bool = False


def text_frame(text: str | bytes) -> bytes:
    """A text message; lone surrogates and bytes that are no UTF-8 go out as they are."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    return Frame(Opcode.TEXT, data).serialize(mask=True)


def binary_frame(data: bytes) -> bytes:
    """A binary message."""
    return Frame(Opcode.BINARY, data).serialize(mask=True)


def command(**fields: Any) -> bytes:
    """A command as JSON."""
    return text_frame(json.dumps(fields))


# --- Values -----------------------------------------------------------------------------------------------

_any_text = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
_texts = st.one_of(
    _any_text,
    st.sampled_from(
        ["", "\0", "\ud800", "x\udfffy", "\u202e+49", "\ufeff", "𝕏" * 20, "' OR 1=1 --", "%s", "{}"]
    ),
    st.integers(250, 260).map(lambda n: "r" * n),
    st.integers(19_990, 20_010).map(lambda n: "p" * n),
)
_numbers = st.one_of(
    st.integers(),
    st.floats(),
    st.sampled_from(
        [2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -1, -(2**63), 10**400, 0, 1.5, 1e308, float("nan")]
    ),
)
values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_any_text, inner, max_size=3),
    max_leaves=8,
)

# --- Messages as real clients send them -------------------------------------------------------------------

_rooms = st.uuids().map(str)
_configures = st.one_of(
    st.builds(lambda room: command(command="configure", room_id=room, system_prompt=None, **CONFIGS), _rooms),
    st.builds(
        lambda room, prompt: command(command="configure", room_id=room, system_prompt=prompt, **NULL_CONFIGS),
        _rooms,
        st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=30),
    ),
)
_pings = st.integers(0, 2**63 - 1).map(lambda ms: command(command="ping", timestamp=ms))
_audio = st.one_of(
    st.sampled_from([binary_frame(bytes(size)) for size in (320, 640)]),
    st.binary(min_size=320, max_size=320).map(binary_frame),
)
_json_audio = st.lists(st.integers(0, 255), min_size=2, max_size=20).map(
    lambda data: command(
        command="audio", audio_data=data[: len(data) // 2 * 2], sample_rate=16000, channels=1, frame_id="1"
    )
)
_goodbyes = st.just(command(command="disconnect", reason="caller hung up"))
good = st.one_of(_configures, _pings, _audio, _json_audio)

# --- Messages as no client should -------------------------------------------------------------------------


def _json_text(value: Any) -> str:
    """JSON, with lone surrogates as they are or as escapes, and NaN as Python writes it."""
    return json.dumps(value, ensure_ascii=len(str(value)) % 2 == 0)


_wrong_fields = st.builds(
    lambda name, fields: text_frame(_json_text({"command": name, **fields})),
    st.sampled_from(COMMANDS) | _any_text | _numbers,
    st.dictionaries(st.sampled_from(FIELDS[1:]), values, max_size=6),
)
_one_wrong_field = st.builds(
    lambda name, value: text_frame(
        _json_text(
            {"command": "configure", "room_id": "r", **CONFIGS, "metadata": {}, "timestamp": 1, name: value}
        )
    ),
    st.sampled_from(FIELDS),
    values,
)
_no_command = values.map(lambda value: text_frame(_json_text(value)))
_depths = st.integers(1, 30_000)
_deep = st.one_of(
    _depths.map(lambda n: text_frame("[" * n)),
    _depths.map(lambda n: text_frame('{"a":' * n)),
    st.integers(1, 200).map(
        lambda n: text_frame(
            '{"command":"configure","room_id":"r","metadata":{"a":' + "[" * n + "]" * n + "}}"
        )
    ),
)
_numbers_as_text = st.sampled_from(
    [
        "1e400",
        "-1e400",
        "9" * 5_000,
        "NaN",
        "Infinity",
        "-Infinity",
        "1.0",
        "00",
        "-",
        "0x10",
        "1_000",
        "true",
    ]
)
_huge_numbers = st.builds(
    lambda name, field, number: text_frame(f'{{"command":"{name}","room_id":"r","{field}":{number}}}'),
    st.sampled_from(COMMANDS),
    st.sampled_from(FIELDS),
    _numbers_as_text,
)
_sizes = st.integers(LIMIT - 60, LIMIT + 60) | st.sampled_from(
    [0, 1, 2, 125, 126, 127, 65_535, 65_536, 200_000]
)
_large = st.one_of(
    _sizes.map(lambda n: text_frame("x" * n)),
    _sizes.map(lambda n: command(command="disconnect " + "ü" * (n // 4), reason="")),
    _sizes.map(lambda n: command(command="configure", room_id="r", system_prompt="x" * n)),
)
_odd_audio = st.one_of(st.binary(max_size=50).map(binary_frame), _sizes.map(lambda n: binary_frame(bytes(n))))
_no_utf8 = st.binary(max_size=30).map(text_frame)


def _mutated(good_frame: bytes, at: int, much: int, instead: bytes) -> bytes:
    """The payload of a text frame with a piece of it replaced."""
    payload = json.dumps({"command": "configure", "room_id": "r", **CONFIGS}).encode() + good_frame[-20:]
    at %= len(payload)
    return text_frame(payload[:at] + instead + payload[at + much :])


_mutations = st.builds(
    _mutated,
    _configures,
    st.integers(0, 10_000),
    st.integers(0, 40),
    st.binary(max_size=6) | _texts.map(lambda text: text.encode("utf-8", "surrogatepass")[:40]),
)
bad = st.one_of(
    _wrong_fields, _one_wrong_field, _no_command, _deep, _huge_numbers, _large, _odd_audio, _mutations
)

# --- The protocol below ------------------------------------------------------------------------------------


def _fragments(data: bytes, cut: int, opcode: Opcode) -> bytes:
    cut %= len(data) + 1
    head, tail = Frame(opcode, data[:cut], fin=False), Frame(Opcode.CONT, data[cut:])
    ping = Frame(Opcode.PING, b"between")
    return b"".join(frame.serialize(mask=True) for frame in (head, ping, tail))


_fragmented = st.builds(
    _fragments, st.binary(max_size=400), st.integers(0, 400), st.sampled_from([Opcode.TEXT, Opcode.BINARY])
)
_control = st.builds(
    lambda opcode, data: Frame(opcode, data).serialize(mask=True),
    st.sampled_from([Opcode.PING, Opcode.PONG]),
    st.binary(max_size=125),
)
# After one of these, or bytes that are no text, the connection may be closed by either side.
_last = st.one_of(
    _goodbyes,
    _no_utf8,
    st.integers(0, 65_535).map(
        lambda code: Frame(Opcode.CLOSE, struct.pack(">H", code)).serialize(mask=True)
    ),
    st.binary(max_size=12).map(lambda data: b"\x88" + bytes([0x80 | len(data)]) + bytes(4) + data),
    st.binary(min_size=1, max_size=40),  # no frame at all
    st.just(Frame(Opcode.BINARY, bytes(320)).serialize(mask=False)),
    st.just(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + bytes(4)),  # as long as a frame can say
)

_queries = st.one_of(
    st.just(""),
    st.sampled_from(
        ["profile=default", "profile=nobody", "audio=binary", "rate=8000", "caller=%2B49&callee=1"]
    ),
    st.dictionaries(
        st.sampled_from(["profile", "caller", "callee", "metadata", "token", "audio", "rate", "x"]),
        st.text(max_size=20) | values.map(json.dumps),
        max_size=4,
    ).map(lambda query: urlencode(query, errors="surrogatepass")[:MOST_QUERY]),
    st.binary(max_size=20).map(quote),
    st.text("%&=;+abc0", max_size=20),
)


def sessions(least: int = 10, most: int = 80) -> st.SearchStrategy[Session]:
    """Connections of at least and at most so many messages."""
    messages = st.lists(st.one_of(good, bad, _fragmented, _control), min_size=least, max_size=most)
    first = st.lists(_configures, max_size=1)
    return st.builds(_session, _queries, first, st.booleans(), messages, st.lists(_last, max_size=1))


def _session(
    query: str, first: list[bytes], settles: bool, messages: list[bytes], last: list[bytes]
) -> Session:
    return Session(query, (*first, *messages, *last), bool(first) and settles, bool(last))
