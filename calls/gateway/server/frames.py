"""WebSocket frames as calls use them: whole, unfragmented, uncompressed. RFC 6455, section 5.2. Pure."""

BINARY, TEXT = 0x82, 0x81  # the first byte: the last frame of its message, and what is in it
MASKED = 0x80
LONGEST_SHORT = 125  # bytes; longer ones have their length in two more bytes, or in eight
LENGTH_IN_TWO, LENGTH_IN_EIGHT = 126, 127


def binary_message(data: bytes, at: int) -> tuple[bytes, int] | None:
    """The binary message from a client that begins at `at`, and where it ends.

    None if something else begins there, or if it is not all there, is fragmented, or longer than 64 KB.
    """
    if len(data) < at + 6 or data[at] != BINARY:
        return None
    length = data[at + 1] ^ MASKED  # an unmasked one becomes longer than any length in one byte
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
    """The audio of several messages as one; None if they differ in length, or are no audio one by one."""
    length = len(payloads[0])
    alike = length > 0 and length % 2 == 0 and all(len(payload) == length for payload in payloads)
    return b"".join(payloads) if alike else None


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """The payload without its mask of four bytes (or with it: the operation is its own inverse)."""
    length = len(payload)
    masks = (mask * (length // 4 + 1))[:length]
    # As two great numbers: one operation instead of a loop over bytes.
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
