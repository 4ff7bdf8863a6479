"""WebSocket frames as calls use them: whole, unfragmented, uncompressed. RFC 6455, section 5.2. Pure."""

BINARY, TEXT = 0x82, 0x81  # the first byte: FIN and the opcode
MASKED = 0x80
LONGEST_SHORT = 125  # bytes; the length of a longer payload takes two more bytes, or eight
LENGTH_IN_TWO, LENGTH_IN_EIGHT = 126, 127


def binary_message(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The payload of the client's binary message at `at`, and the position after it.

    None if there is another kind of frame, or the message is incomplete, fragmented or longer than 64 KB.
    """
    if len(data) < at + 6 or data[at] != BINARY:
        return None
    length = data[at + 1] ^ MASKED  # of an unmasked frame: 128 or more, refused below
    begin = at + 6
    if length == LENGTH_IN_TWO:
        length = data[at + 2] << 8 | data[at + 3]
        begin = at + 8
        if length <= LONGEST_SHORT:
            return None
    elif length > LONGEST_SHORT:
        return None
    end = begin + length
    if len(data) < end:
        return None
    return unmasked(data[begin:end], data[begin - 4 : begin]), end


def joined(payloads: list[bytes]) -> bytes | None:
    """The payloads as one; None if they differ in length, are empty or have an odd number of bytes."""
    length = len(payloads[0])
    alike = length > 0 and length % 2 == 0 and all(len(payload) == length for payload in payloads)
    return b"".join(payloads) if alike else None


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """The payload without its mask of four bytes (or with it: the operation is its own inverse)."""
    length = len(payload)
    masks = (mask * (length // 4 + 1))[:length]
    # XOR as two large integers instead of byte by byte.
    return (int.from_bytes(payload, "little") ^ int.from_bytes(masks, "little")).to_bytes(length, "little")


def message(content: str | bytes) -> bytes:
    """A message to a client as one frame: text if it is a string, binary if it is bytes."""
    kind, payload = (TEXT, content.encode()) if isinstance(content, str) else (BINARY, content)
    length = len(payload)
    if length <= LONGEST_SHORT:
        head = bytes((kind, length))
    elif length < 1 << 16:
        head = bytes((kind, LENGTH_IN_TWO)) + length.to_bytes(2, "big")
    else:
        head = bytes((kind, LENGTH_IN_EIGHT)) + length.to_bytes(8, "big")
    return head + payload
