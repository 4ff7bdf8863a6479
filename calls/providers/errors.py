"""Explains errors of providers to the people who run the server, briefly and without secrets."""

import re
import socket
import ssl

from calls.redaction import redacted
from calls.text import whole

MOST_CHARS = 300
CERT_EXPIRED = 10  # OpenSSL's X509_V_ERR_CERT_HAS_EXPIRED
STATUSES = {
    401: "the key was refused",
    403: "the key does not allow this",
    404: "there is no such model or address",
    429: "too many requests, or the account's credit is used up",
}
# Pipecat's name of the service, which is removed: the service that failed is named elsewhere.
_PROCESSOR = re.compile(r"\b\w+#\d+:? ?")
# The first that fits counts. Libraries' classes are given by name, so that libraries need not be imported.
MEANINGS: list[tuple[type[BaseException] | set[str], str]] = [
    (socket.gaierror, "its address cannot be found: DNS has no answer"),
    (ssl.SSLCertVerificationError, "its TLS certificate is not trusted"),
    (ssl.SSLError, "TLS could not be agreed on"),
    (ConnectionRefusedError, "the connection was refused: nothing listens there"),
    (TimeoutError, "it did not answer in time"),
    ({"APITimeoutError", "ConnectTimeout", "ReadTimeout", "PoolTimeout"}, "it did not answer in time"),
    (ConnectionResetError, "the connection broke off"),
    (EOFError, "the connection broke off"),
    ({"ConnectionClosedError", "RemoteProtocolError", "ReadError", "WriteError"}, "the connection broke off"),
]


def explained(message: str, exception: BaseException | None = None) -> str:
    """The meaning of a provider's error, if known, and its message, on one line, shortened and redacted."""
    said = " ".join(_PROCESSOR.sub("", redacted(whole(message))).split())
    meaning = _found(exception, [])
    if meaning and said:
        said = f"{meaning} ({said})"
    text = said or meaning or "no reason was given"
    return text if len(text) <= MOST_CHARS else f"{text[: MOST_CHARS - 1]}…"


def _found(error: BaseException | None, seen: list[BaseException]) -> str:
    """The meaning of an exception's cause, else of itself, else of its context; "" if none is known."""
    if error is None or error in seen:
        return ""
    seen.append(error)
    causes = (error.__cause__, *(error.exceptions if isinstance(error, BaseExceptionGroup) else ()))
    meant = next(filter(None, (_found(cause, seen) for cause in causes)), "")
    return meant or _meaning(error) or _found(error.__context__, seen)


def _meaning(error: BaseException) -> str:
    """The meaning of one exception, without its causes; "" if none is known."""
    if status := _status(error):
        return f"{_of_status(status)} (HTTP {status})"
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == CERT_EXPIRED:
        return "its TLS certificate has expired"
    for kind, meaning in MEANINGS:
        if type(error).__name__ in kind if isinstance(kind, set) else isinstance(error, kind):
            return meaning
    return ""


def _status(error: BaseException) -> int:
    """The HTTP status that an exception of OpenAI's client, httpx or websockets carries; 0 for none."""
    status = getattr(error, "status_code", None) or getattr(
        getattr(error, "response", None), "status_code", None
    )
    return status if isinstance(status, int) and status >= 400 else 0


def _of_status(status: int) -> str:
    if status >= 500:
        return "the provider failed on its side"
    return STATUSES.get(status, "the request was refused")
