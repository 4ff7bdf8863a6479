"""SIP addresses as RustPBX hands them on: who is meant, without what belongs to the transport. No I/O."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

MAX_CHARS = 2048  # of an address; the rest of a longer one is not read
_NAME_ADDR = re.compile(r'^\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^<"]*?))\s*<(?P<uri>[^>]*)>?', re.S)
_SCHEME = re.compile(r"^(sips?|tel):", re.IGNORECASE)
_HOST_PORT = re.compile(r"^(?P<host>\[[^\]]*\]|[^:\[\]]*)(?::(?P<port>\d{1,5}))?$")
_QUOTED_PAIR = re.compile(r"\\(.)", re.S)
_VISUAL = re.compile(r"[\s().\-]")
_NUMBER = re.compile(r"\+?[\d\s().\-]+")
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """A SIP or telephone address.

    Attributes:
        user: the part before "@", or the number of a tel: one; percent-decoded, without a password.
        host: in lower case, without brackets; "" of a tel: address.
        port: None if it is not said.
        scheme: sip, sips or tel.
        display: the name beside it, for people.
    """

    user: str
    host: str = ""
    port: int | None = None
    scheme: str = "sip"
    display: str = ""

    @property
    def name(self) -> str:
        """What people call it: the user, else the host."""
        return self.user or self.host

    def __str__(self) -> str:
        """As a URI without port, parameters and password."""
        if self.scheme == "tel" or not self.host:
            return f"{self.scheme}:{self.user}" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}:{self.user}@{host}" if self.user else f"{self.scheme}:{host}"


def parse(text: str) -> Address:
    """Read a SIP URI, a name-addr (`"Ann" <sip:ann@pbx>;tag=1`), a tel: URI, or a bare user or number.

    Anything is read somehow: what is no address at all becomes the user.
    """
    text = text[:MAX_CHARS].strip()
    display = ""
    if (found := _NAME_ADDR.match(text)) and "<" in text:
        quoted = found["quoted"]
        display = _QUOTED_PAIR.sub(r"\1", quoted) if quoted is not None else found["plain"].strip()
        text = found["uri"].strip()
    scheme = _SCHEME.match(text)
    kind = scheme[1].lower() if scheme else "sip"
    rest = text[scheme.end() :] if scheme else text
    if kind == "tel":
        return Address(_number(unquote(rest.split(";")[0])), scheme=kind, display=display)
    user, host = _divided(rest, is_uri=scheme is not None)
    host, port = _host_and_port(host)
    return Address(_user(user), host, port, kind, display)


def _divided(rest: str, *, is_uri: bool) -> tuple[str, str]:
    """The user and the host. Of a user "@" may be a part (though it should be encoded), of a host not."""
    user, at, host = rest.rpartition("@")
    if at:
        return user, re.split("[;?]", host)[0]
    alone = re.split("[;?]", rest)[0]
    return ("", alone) if is_uri else (alone, "")


def _host_and_port(text: str) -> tuple[str, int | None]:
    found = _HOST_PORT.match(text.strip())
    if found is None:  # an IPv6 address that has lost its brackets, or nonsense
        return text.strip().strip("[]").lower(), None
    port = int(found["port"]) if found["port"] else None
    return found["host"].strip("[]").lower(), port if port and port <= MAX_PORT else None


def _user(text: str) -> str:
    """The user without password, parameters and headers, decoded; a number without dashes and the like."""
    return _number(unquote(re.split("[;:?]", text)[0]).strip())


def _number(text: str) -> str:
    is_number = _NUMBER.fullmatch(text) and any(map(str.isdigit, text))
    return _VISUAL.sub("", text) if is_number else text
