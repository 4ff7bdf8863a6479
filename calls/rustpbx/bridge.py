"""The bridge of today's RustPBX: binary audio both ways, and the keys that the caller presses. No I/O.

RustPBX dials us with a call that goes on: there is no `configure`, and it ignores every text of ours.
"""

import json

from calls.rustpbx.codec import refuse_constant, shown
from calls.rustpbx.messages import Audio, ErrorCode, Key, ProtocolError

KEYS = frozenset("0123456789*#ABCD")
MAX_TEXT_CHARS = 4096
MAX_BINARY_BYTES = 64 * 1024  # two thirds of a second at 48 kHz; RustPBX sends what one RTP packet holds
# RustPBX sends the caller a packet every 20 ms by its own clock: without a lead one call of five had a hole
# of 20 ms, with 60 to 100 ms none in ten calls of 8 s. What has been sent is heard: an interruption stops the
# agent that much later.
LEAD_S = 0.080


def decode_text(text: str) -> Key:
    """Read a text message, of which there is one kind: `{"type":"dtmf","digit":"5","leg_id":"caller"}`.

    Raises:
        ProtocolError: anything else (400), a key that no telephone has (422).
    """
    try:
        data = json.loads(text[:MAX_TEXT_CHARS], parse_constant=refuse_constant)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("type") != "dtmf":
        raise ProtocolError(ErrorCode.MALFORMED, "expected a key of the caller, got another text message")
    digit = data.get("digit")
    if not isinstance(digit, str) or digit.upper() not in KEYS:
        raise ProtocolError(
            ErrorCode.BAD_VALUE, f"expected digit to be a key of a telephone, got {shown(digit)}"
        )
    return Key(digit.upper())


def decode_binary(data: bytes) -> Audio:
    """Read a binary message: any even number of bytes, also none, as of an empty RTP packet.

    Raises:
        ProtocolError: odd length (422), over 64 KB (413).
    """
    if len(data) > MAX_BINARY_BYTES:
        message = f"expected at most {MAX_BINARY_BYTES} bytes of audio a message, got {len(data)}"
        raise ProtocolError(ErrorCode.TOO_LARGE, message)
    if len(data) % 2:
        message = f"expected 16-bit samples, an even number of bytes, got {len(data)} bytes"
        raise ProtocolError(ErrorCode.BAD_VALUE, message)
    return Audio(data)
