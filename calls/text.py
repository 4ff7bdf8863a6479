"""Text from outside as whole characters. Pure."""

import re

# A terminal or a database may take them for something else: all but tab, line feed and carriage return.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def whole(text: str) -> str:
    """The text without control characters and halves of characters; two halves side by side become one.

    JSON can write a character in two halves ("\\ud83d\\ude00"), and half of one, which no encoder takes.
    """
    joined = (
        text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "ignore")
    )
    return _CONTROL.sub("", joined)


class WholeText:
    """Text that comes in pieces, which may be cut in the middle of a character."""

    def __init__(self) -> None:
        self._half = ""

    def add(self, piece: str) -> str:
        """The piece in whole characters; its last half waits for the other one, which the next may bring."""
        text = self._half + piece
        self._half = text[-1] if text and "\ud800" <= text[-1] <= "\udbff" else ""
        return whole(text.removesuffix(self._half))

    def end(self) -> None:
        """No more comes: half a character that waited is none."""
        self._half = ""
