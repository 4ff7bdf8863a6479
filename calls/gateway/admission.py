"""Who may stream calls, and how many: this machine without asking, everyone else with a token.

Never a foreign web page; nobody while the process is about to end or has as many calls as it carries.
"""

import hmac
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from calls.gateway.places import places
from calls.gateway.proxies import address_of
from calls.gateway.refusing import Refusal, count_refusal
from calls.process import this_process

TICKET = "ticket"  # the parameter by which a call comes that a PBX has asked us about
FORWARDING_HEADERS = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"via",
)


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of the request's URL; of a repeated one, the last value."""
    query = parse_qs(scope.get("query_string", b"").decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in query.items()}


def refusal(scope: Mapping[str, Any]) -> Refusal | None:
    """Why this WebSocket request may not stream calls, or None if it may."""
    foreign = _foreign_origin(scope)
    if not foreign and query_of(scope).get(TICKET):
        return None  # RustPBX would leave its caller in silence: whether the ticket is valid is seen later
    stranger = foreign or (None if _is_this_machine(scope) else _token_refusal(scope))
    return Refusal(HTTPStatus.FORBIDDEN, stranger) if stranger else no_room()


def no_room() -> Refusal | None:
    """Why no call may begin now, whoever comes; None if one may."""
    if this_process.is_ending:
        reason = "expected a server that takes calls: this one is about to end"
    elif _is_full():
        reason = f"expected fewer calls at once: this server takes {this_process.load.most} (MAX_CALLS)"
    else:
        return None
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, reason)


def header(scope: Mapping[str, Any], name: bytes) -> str:
    """The request's header of this name in lower case; the last one, "" if there is none."""
    values = [value.decode("latin-1") for each, value in scope["headers"] if each == name]
    return values[-1] if values else ""


def reserve(key: str, seconds: float) -> bool:
    """Keep a place for the call `key`, which is told to come; whether there is one. For any thread."""
    if this_process.is_accepting and places.keep(key, seconds, _room()):
        return True
    count_refusal()
    return False


def release(key: str) -> None:
    """The call has come, or will not."""
    places.release(key)


def _room() -> int | None:
    """How many calls may come besides those that are here; None if as many as come."""
    load = this_process.load
    return None if load.most is None else max(0, load.most - load.calls)


def _is_full() -> bool:
    room = _room()
    return room is not None and places.kept >= room


def _token_refusal(scope: Mapping[str, Any]) -> str | None:
    if not settings.STREAM_TOKENS:
        return "expected a client on this machine: no STREAM_TOKENS are set"
    offered = offered_token(scope)
    if not offered:
        return "expected a token (?token=… or a bearer header), got none"
    if not is_token(offered, settings.STREAM_TOKENS):
        return "expected one of STREAM_TOKENS, got another token"
    return None


def is_token(offered: str, tokens: Iterable[str]) -> bool:
    """Whether `offered` is one of the tokens, compared in constant time."""
    matches = [hmac.compare_digest(offered.encode(), token.encode()) for token in tokens]
    return any(matches)


def offered_token(scope: Mapping[str, Any]) -> str:
    """The token in the bearer header, else in the URL; "" if there is none."""
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].decode("latin-1").strip())
    return query_of(scope).get("token", "")


def _is_this_machine(scope: Mapping[str, Any]) -> bool:
    """Whether the peer is a loopback address and no header shows that a proxy forwards the request."""
    peer = (scope.get("client") or [""])[0]
    address = address_of(peer)
    if address is None or not address.is_loopback:
        return False
    return not any(name in FORWARDING_HEADERS for name, _ in scope["headers"])


def _foreign_origin(scope: Mapping[str, Any]) -> str | None:
    """Why the page's Origin is refused, if any: a foreign page must not reach a local agent."""
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    for origin in origins:
        host, _ = split_domain_port(urlsplit(origin).netloc)
        if not host or not validate_host(host, settings.ALLOWED_HOSTS):
            return f"expected a page of this server, got one of origin {origin[:100]!r}"
    return None
