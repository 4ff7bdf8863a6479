"""Who may stream calls: this machine without asking, everyone else with a token; never a foreign web page."""

import hmac
import ipaddress
import logging
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from django.conf import settings
from django.http.request import HttpRequest, split_domain_port, validate_host
from django.utils.deprecation import MiddlewareMixin

logger = logging.getLogger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

FORWARDING_HEADERS = (
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-proto",
    b"x-real-ip",
    b"via",
)


class TrustedProxiesMiddleware(MiddlewareMixin):
    """X-Forwarded-Proto counts from TRUSTED_PROXIES only: anybody can send it, and would pass for https."""

    def process_request(self, request: HttpRequest) -> None:
        """Drop the header of anyone else, before Django's own middleware reads it."""
        if not _in_networks(request.META.get("REMOTE_ADDR", ""), settings.TRUSTED_PROXIES):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)


def query_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """The parameters of the request's URL; of repeated ones the last."""
    query = parse_qs(scope.get("query_string", b"").decode("utf-8", "replace"), keep_blank_values=True)
    return {name: values[-1] for name, values in query.items()}


def client_address(scope: Mapping[str, Any]) -> str:
    """The caller's address: the socket's, or what a trusted proxy says it forwards for; "" if unknown.

    Of a chain of proxies, the address that the last trusted one saw counts: anything further left in
    X-Forwarded-For was written by the client.
    """
    peer = (scope.get("client") or [""])[0]
    if not _in_networks(peer, settings.TRUSTED_PROXIES):
        return str(peer)
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    hops = [hop.strip() for hop in forwarded.decode("latin-1").split(",") if hop.strip()]
    for hop in reversed(hops):
        if not _in_networks(hop, settings.TRUSTED_PROXIES):
            return hop
    return str(peer)


def refusal(scope: Mapping[str, Any]) -> str | None:
    """Why this WebSocket request may not stream calls, or None if it may. Names no secret."""
    if reason := _foreign_origin(scope):
        return reason
    if _is_this_machine(scope):
        return None
    if not settings.STREAM_TOKENS:
        return "expected a client on this machine: no STREAM_TOKENS are set"
    offered = _offered_token(scope)
    if not offered:
        return "expected a token (?token=… or a bearer header), got none"
    if not is_token(offered, settings.STREAM_TOKENS):
        return "expected one of STREAM_TOKENS, got another token"
    return None


def is_token(offered: str, tokens: Iterable[str]) -> bool:
    """Whether `offered` is one of the tokens, in a time that tells nothing about them."""
    matches = [hmac.compare_digest(offered.encode(), token.encode()) for token in tokens]
    return any(matches)


def _offered_token(scope: Mapping[str, Any]) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            return str(value[7:].decode("latin-1").strip())
    return query_of(scope).get("token", "")


def _is_this_machine(scope: Mapping[str, Any]) -> bool:
    """A loopback socket with no sign of a proxy that forwards for somebody else."""
    peer = (scope.get("client") or [""])[0]
    address = _address(peer)
    if address is None or not address.is_loopback:
        return False
    return not any(name in FORWARDING_HEADERS for name, _ in scope["headers"])


def _foreign_origin(scope: Mapping[str, Any]) -> str | None:
    """A browser names the page's origin: one from elsewhere must not reach a developer's local agent."""
    origins = [value.decode("latin-1") for name, value in scope["headers"] if name == b"origin"]
    for origin in origins:
        host, _ = split_domain_port(urlsplit(origin).netloc)
        if not host or not validate_host(host, settings.ALLOWED_HOSTS):
            return f"expected a page of this server, got one of origin {origin[:100]!r}"
    return None


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _in_networks(text: str, networks: Iterable[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)
