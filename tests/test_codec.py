"""The wire codec: what is understood, what each mistake is called, and that nothing else can happen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calls.models.storable import storable_json
from calls.rustpbx import codec, messages
from calls.rustpbx.codec import decode_binary, decode_text
from calls.rustpbx.incoming import request_of
from calls.rustpbx.messages import (
    Audio,
    Configure,
    Disconnect,
    ErrorCode,
    Ping,
    ProtocolError,
    Url,
)
from calls.rustpbx.url import _DECODERS as URL_DECODERS
from calls.rustpbx.url import decode_url

# RustPBX's table of required fields and their JSON types; a message that differs is dropped there.
CLIENT_TABLE = {
    "connected": {"server": str, "version": str, "timestamp": int},
    "configured": {"call_id": str, "status": str, "timestamp": int},
    "transcription": {"text": str, "is_final": bool, "timestamp": int, "language": str},
    "llm_response": {"text": str, "is_complete": bool, "timestamp": int},
    "tts_started": {"text": str, "timestamp": int},
    "tts_completed": {"text": str, "timestamp": int},
    "metrics": {"key": str, "duration": int, "timestamp": int},
    "error": {"message": str, "timestamp": int, "code": int},
    "ping": {"timestamp": int},
    "pong": {"timestamp": int},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
commands = st.sampled_from(["configure", "ping", "disconnect", "audio", "Ping", ""])
fields = st.sampled_from(
    [
        "room_id", "system_prompt", "stt_config", "llm_config", "tts_config", "profile", "caller", "callee",
        "metadata", "timestamp", "reason", "audio_data", "sample_rate", "channels", "frame_id", "other",
    ]
)  # fmt: skip


def refused(text: str) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decode_text(text)
    return caught.value


def test_configure_as_both_generations_send_it():
    message = decode_text(
        json.dumps(
            {
                "command": "configure",
                "room_id": "room-1",
                "system_prompt": None,
                "stt_config": {"sample_rate": 16000, "language": "en", "model": "nova"},
                "llm_config": {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
                "tts_config": {"model": "aura-asteria-en", "sample_rate": 16000, "encoding": "linear16"},
                "something_new": [1, 2],
            }
        )
    )
    assert message == Configure(
        room_id="room-1",
        stt_config={"sample_rate": 16000, "language": "en", "model": "nova"},
        llm_config={"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7},
        tts_config={"model": "aura-asteria-en", "sample_rate": 16000, "encoding": "linear16"},
    )


def test_configure_with_this_projects_extensions():
    message = decode_text(
        '{"command":"configure","room_id":"r","profile":"sales","caller":"+1","callee":"+2","metadata":{"a":1}}'
    )
    assert message == Configure(room_id="r", profile="sales", caller="+1", callee="+2", metadata={"a": 1})


def test_the_other_commands():
    assert decode_text('{"command":"ping","timestamp":1700000000000}') == Ping(1_700_000_000_000)
    assert decode_text('{"command":"disconnect","reason":"bye"}') == Disconnect("bye")
    assert decode_text('{"command":"disconnect"}') == Disconnect("")
    audio = {"audio_data": [0, 1, 255, 127], "sample_rate": 16000, "channels": 1, "frame_id": "f"}
    assert decode_text(json.dumps({"command": "audio", "timestamp": 1, **audio})) == Audio(
        b"\x00\x01\xff\x7f", is_json=True
    )
    assert decode_binary(b"\x01\x02") == Audio(b"\x01\x02")


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("hello", 400, "JSON object"),
        ("[1]", 400, "got an array"),
        ("null", 400, "got null"),
        ('{"command":"dance"}', 400, "'dance'"),
        ('{"command":7}', 400, "got 7"),
        ("{}", 400, "configure, ping, disconnect, audio"),
        ('{"command":"configure"}', 400, "room_id"),
        ('{"command":"configure","room_id":5}', 400, "room_id to be a string, got 5"),
        ('{"command":"configure","room_id":"r","llm_config":"x"}', 400, "llm_config to be an object or null"),
        ('{"command":"configure","room_id":"r","metadata":{"a":NaN}}', 400, "NaN"),
        ('{"command":"ping"}', 400, "timestamp"),
        ('{"command":"ping","timestamp":1.5}', 400, "got 1.5"),
        ('{"command":"ping","timestamp":true}', 400, "got True"),
        ('{"command":"ping","timestamp":-1}', 422, "got -1"),
        ('{"command":"audio"}', 400, "audio_data"),
        ('{"command":"audio","audio_data":[]}', 422, "empty"),
        ('{"command":"audio","audio_data":[1]}', 422, "1 bytes"),
        ('{"command":"audio","audio_data":[256,0]}', 422, "0-255"),
        ('{"command":"audio","audio_data":["a","b"]}', 422, "0-255"),
        ('{"command":"audio","audio_data":[0,0],"sample_rate":8000}', 422, "sample_rate 16000, got 8000"),
        ('{"command":"audio","audio_data":[0,0],"channels":2}', 422, "channels 1, got 2"),
        ('{"command":"configure","room_id":"' + "r" * 256 + '"}', 422, "255 characters, got 256"),
        ('{"command":"configure","room_id":"a\\u0000b"}', 422, "NUL"),
        ('{"command":"configure","room_id":"r","system_prompt":"\\ud800"}', 422, "surrogate"),
        ('{"command":"configure","room_id":"r","metadata":{"\\u0000":1}}', 422, "NUL"),
        ('{"command":"configure","room_id":"r","metadata":{"a":["\\udfff"]}}', 422, "surrogate"),
        ("[" * 60_000, 400, "JSON object"),
        ('{"x":"' + "y" * codec.MAX_TEXT_BYTES + '"}', 413, "65536"),
    ],
)
def test_each_mistake_has_a_code_and_says_what_was_expected(text, code, says):
    error = refused(text)
    assert error.code == code
    assert says in str(error)
    assert len(str(error)) < 300


@pytest.mark.parametrize("letter", ["y", "ü", "好", "👋"])
def test_the_size_of_a_text_is_that_of_its_bytes(letter):
    def text(size):
        head = '{"command":"disconnect","reason":"'
        letters, rest = divmod(size - len(head) - len('"}'), len(letter.encode()))
        return head + letter * letters + "x" * rest + '"}'

    assert len(text(codec.MAX_TEXT_BYTES).encode()) == codec.MAX_TEXT_BYTES
    decode_text(text(codec.MAX_TEXT_BYTES))
    for size in (codec.MAX_TEXT_BYTES + 1, 2 * codec.MAX_TEXT_BYTES):
        error = refused(text(size))
        assert error.code == 413
        assert str(error).startswith("expected at most 65536 bytes a message, got at least ")


def nested(depth):
    """A configure with a value so deep in it."""
    return '{"command":"configure","room_id":"r","metadata":' + '{"a":' * (depth - 1) + "1" + "}" * depth


def test_values_may_be_nested_as_deep_as_they_are_stored():
    metadata = decode_text(nested(codec.MAX_DEPTH)).metadata
    assert storable_json({"of": metadata}) == {"of": metadata}
    error = refused(nested(codec.MAX_DEPTH + 1))
    assert (error.code, str(error)) == (422, "expected values nested at most 32 deep, got some nested deeper")


def test_no_depth_does_anything_but_be_refused():
    """Somewhere below a thousand the parser itself gives up."""
    for depth in (500, *range(900, 1000), 5000):
        assert refused(nested(depth)).code in (400, 422)


def test_what_is_written_like_nul_is_none():
    message = decode_text(r'{"command":"configure","room_id":"r","system_prompt":"never write \\u0000"}')
    assert message.system_prompt == r"never write \u0000"


@pytest.mark.parametrize(
    ("data", "code"), [(b"", 422), (b"abc", 422), (bytes(codec.MAX_BINARY_BYTES + 2), 413)]
)
def test_binary_audio_that_is_none(data, code):
    with pytest.raises(ProtocolError) as caught:
        decode_binary(data)
    assert caught.value.code == code


@given(st.text())
def test_no_text_does_anything_but_decode_or_be_refused(text):
    try:
        decode_text(text)
    except ProtocolError as e:
        assert e.code in ErrorCode


@given(commands, st.dictionaries(fields, json_values, max_size=6))
def test_no_object_does_anything_but_decode_or_be_refused(command, data):
    try:
        message = decode_text(json.dumps({"command": command, **data}))
    except ProtocolError as e:
        assert e.code in ErrorCode
    else:
        assert isinstance(message, Configure | Ping | Disconnect | Audio)
        if isinstance(message, Audio):
            assert message.pcm
            assert len(message.pcm) % 2 == 0


@given(st.binary(max_size=2000))
def test_no_bytes_do_anything_but_decode_or_be_refused(data):
    try:
        assert decode_binary(data).pcm == data
    except ProtocolError as e:
        assert e.code == ErrorCode.BAD_VALUE
        assert not data or len(data) % 2


MESSAGES = [
    messages.Connected(timestamp=1, server="s", version="v"),
    messages.Configured(timestamp=1, call_id="c", status="ready"),
    messages.Transcription(timestamp=1, text="ü\u2028", is_final=False, language="en"),
    messages.LLMResponse(timestamp=1, text='"', is_complete=True),
    messages.TTSStarted(timestamp=1, text="t"),
    messages.TTSCompleted(timestamp=1, text="t"),
    messages.Metrics(timestamp=1, key="stt", duration=5),
    messages.Error(timestamp=1, message="m", code=ErrorCode.PROVIDER),
    messages.ServerPing(timestamp=1),
    messages.Pong(timestamp=1),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.type)
def test_every_message_has_the_fields_and_types_the_client_demands(message):
    sent = json.loads(codec.encode(message))
    table = CLIENT_TABLE[sent.pop("type")]
    assert {name: type(value) for name, value in sent.items()} == table


def test_every_message_of_the_table_exists():
    assert {message.type for message in MESSAGES} == set(CLIENT_TABLE)


@given(st.binary(min_size=640, max_size=640))
def test_audio_keeps_every_byte(pcm):
    sent = json.loads(codec.encode_audio(pcm, "17"))
    assert bytes(sent.pop("audio_data")) == pcm
    assert sent == {"type": "audio", "sample_rate": 16000, "channels": 1, "frame_id": "17"}


@given(st.binary(min_size=320, max_size=320))
def test_audio_at_8_khz_says_so(pcm):
    sent = json.loads(codec.encode_audio(pcm, "17", 8000))
    assert bytes(sent["audio_data"]) == pcm
    assert sent["sample_rate"] == 8000


# --- The URL ----------------------------------------------------------------------------------------------


def test_everything_the_url_can_say():
    query = {
        "profile": "sales", "caller": "+49 30 1", "callee": "100", "metadata": '{"a": [1, null]}',
        "audio": "binary", "rate": "8000", "version": "7", "token": "not ours to read", "other": "ignored",
    }  # fmt: skip
    wanted = Url("sales", "+49 30 1", "100", {"a": [1, None]}, binary=True, rate=8000, version=7)
    assert decode_url(query) == (wanted, [])
    assert decode_url({"audio": "json", "rate": "16000", "caller": ""}) == (Url(), [])
    assert decode_url({}) == (Url(), [])


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("profile", "a" * 256, "at most 255 characters, got 256"),
        ("caller", "1" * 301, "at most 255 characters, got 301"),
        ("caller", "+49\0", "NUL"),
        ("callee", "\ud83d", "surrogate"),
        ("metadata", "[]", "JSON object"),
        ("metadata", "{", "JSON object"),
        ("metadata", "[" * 100_000, "JSON object"),
        ("metadata", "1", "JSON object"),
        ("metadata", '{"a": NaN}', "JSON object"),
        ("metadata", '{"a": "\\u0000"}', "NUL"),
        ("metadata", '{"a": ' + "[" * 40 + "]" * 40 + "}", "nested at most 32 deep"),
        ("audio", "mp3", "binary or json, got 'mp3'"),
        ("rate", "44100", "8000 or 16000, got '44100'"),
        ("version", "latest", "number of a profile's version, got 'latest'"),
        ("version", "-1", "number of a profile's version, got '-1'"),
        ("version", "٧", "number of a profile's version"),
        ("version", "9" * 5_000, "number of a profile's version"),
        ("rate", "8khz", "8000 or 16000, got '8khz'"),
        ("rate", "-8000", "8000 or 16000, got '-8000'"),
        ("rate", "08000", "8000 or 16000, got '08000'"),
        ("rate", "9" * 5_000, "8000 or 16000, got '999"),
    ],
)
def test_what_the_url_may_not_say_is_named_and_left_out(name, text, says):
    url, (error,) = decode_url({"caller": "1", "callee": "2", "profile": "sales"} | {name: text})
    assert error.code == ErrorCode.BAD_VALUE
    assert str(error).startswith("expected ")
    assert says in str(error)
    assert len(str(error)) < 200
    left = {"caller": "1", "callee": "2", "profile": "sales"}
    left.pop(name, None)
    assert url == Url(**left)


@given(st.dictionaries(st.sampled_from(sorted(URL_DECODERS)), st.text() | json_values.map(json.dumps)))
def test_no_url_does_anything_else(query):
    url, errors = decode_url(query)
    assert all(isinstance(error, ProtocolError) for error in errors)
    assert storable_json(dict(url.metadata)) == url.metadata
    for text in (url.profile, url.caller, url.callee):
        assert text is None or (len(text) <= 255 and "\0" not in text)


def test_a_version_is_one_of_a_profile():
    _url, (error,) = decode_url({"version": "7"})
    assert "version in the URL to be left out, as there is no profile" in str(error)
    assert request_of(Configure("r"), Url("sales", version=7)).version == 7
    assert request_of(Configure("r", profile="sales"), Url("sales", version=7)).version == 7
    assert request_of(Configure("r", profile="night"), Url("sales", version=7)).version is None
