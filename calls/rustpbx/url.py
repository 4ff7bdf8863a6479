"""The parameters of the URL that a client connects to. No I/O."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from calls.audio.format import SAMPLE_RATE
from calls.rustpbx.codec import (
    checked_name,
    refuse_constant,
    refuse_unstorable,
    refuse_unstorable_text,
    shown,
)
from calls.rustpbx.messages import ErrorCode, ProtocolError, Url

BRIDGE = "bridge"
VERSION_DIGITS = 9
VOICE_RATES = (8_000, SAMPLE_RATE)  # Hz, of the agent's voice
BRIDGE_RATES = (8_000, 16_000, 24_000, 48_000)  # Hz, both ways; the first is the bridge's default


def decode_url(query: Mapping[str, str]) -> tuple[Url, list[ProtocolError]]:
    """Read the URL's parameters. What cannot be used is left out, and returned as an error (422)."""
    is_bridge = query.get("client") == BRIDGE
    values: dict[str, Any] = {"rate": BRIDGE_RATES[0]} if is_bridge else {}
    errors: list[ProtocolError] = []
    for parameter, decode in (_BRIDGE_DECODERS if is_bridge else _DECODERS).items():
        if text := query.get(parameter):
            try:
                refuse_unstorable_text(text)
                values |= decode(parameter, text)
            except ProtocolError as e:
                errors.append(e)
    if "version" in values and not values.get("profile"):
        errors.append(_bad("version", "left out, as there is no profile", query["version"]))
    return Url(**values), errors


def _bad(parameter: str, expected: str, text: str) -> ProtocolError:
    message = f"expected {parameter} in the URL to be {expected}, got {shown(text)}"
    return ProtocolError(ErrorCode.BAD_VALUE, message)


def _decode_name(parameter: str, text: str) -> dict[str, Any]:
    return {parameter: checked_name({parameter: text}, parameter)}


def _decode_metadata(parameter: str, text: str) -> dict[str, Any]:
    try:
        metadata = json.loads(text, parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise _bad(parameter, "a JSON object", text)
    refuse_unstorable(metadata)
    return {"metadata": metadata}


def _decode_client(parameter: str, text: str) -> dict[str, Any]:
    if text != BRIDGE:
        raise _bad(parameter, f"{BRIDGE}, or left out", text)
    return {"bridge": True}


def _decode_audio(parameter: str, text: str) -> dict[str, Any]:
    if text not in ("binary", "json"):
        raise _bad(parameter, "binary or json", text)
    return {"binary": text == "binary"}


def _decode_version(parameter: str, text: str) -> dict[str, Any]:
    if not (text.isascii() and text.isdigit() and len(text) <= VERSION_DIGITS):
        raise _bad(parameter, "the number of a profile's version", text)
    return {parameter: int(text)}


def _rate_of(*rates: int) -> Callable[[str, str], dict[str, Any]]:
    known = ", ".join(map(str, rates[:-1])) + f" or {rates[-1]}"

    def decode(parameter: str, text: str) -> dict[str, Any]:
        for rate in rates:
            if text == str(rate):
                return {"rate": rate}
        raise _bad(parameter, known, text)

    return decode


_DECODERS: dict[str, Callable[[str, str], dict[str, Any]]] = {
    "profile": _decode_name,
    "version": _decode_version,
    "caller": _decode_name,
    "callee": _decode_name,
    "metadata": _decode_metadata,
    "client": _decode_client,
    "audio": _decode_audio,
    "rate": _rate_of(*VOICE_RATES),
}
_BRIDGE_DECODERS = _DECODERS | {"rate": _rate_of(*BRIDGE_RATES)}
