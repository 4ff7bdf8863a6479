"""Callers in one form, so that one caller's calls are found however the number was written."""

import re

MOST_CHARS = 255
_SIP = re.compile(r"^sips?:", re.IGNORECASE)
_NUMBER = re.compile(r"^\+?[\d\s().\-/]*\d[\d\s().\-/]*$")
_TRUNK_ZERO = re.compile(r"\(0\)")
_NOT_DIGITS = re.compile(r"\D")


def normalised(caller: str) -> str:
    """Return a telephone number's digits, and anything else in lower case; of a SIP address the user part.

    "+49 (0)30 1234", "0049 30 1234" and "sip:+49301234@pbx;user=phone" become "49301234". A national number
    stays national, as its country is not known. "" stays "". At most 255 characters.
    """
    name = caller.strip().strip("<>")
    if _SIP.match(name):
        name = re.split("[@;]", _SIP.sub("", name))[0]
    if not _NUMBER.match(name):
        return " ".join(name.casefold().split())[:MOST_CHARS]
    international = name.startswith(("+", "00"))
    digits = _NOT_DIGITS.sub("", _TRUNK_ZERO.sub("", name) if international else name)
    return digits.removeprefix("00") if international else digits
