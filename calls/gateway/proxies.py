"""The address a request comes from: the socket's, or the one a trusted proxy forwards for."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from django.conf import settings
from django.http.request import HttpRequest
from django.utils.deprecation import MiddlewareMixin

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

IPV6_SITE = 64  # bits: what one household or server is given


class TrustedProxiesMiddleware(MiddlewareMixin):
    """Accepts X-Forwarded-Proto from TRUSTED_PROXIES only: anybody else could pretend to use https."""

    def process_request(self, request: HttpRequest) -> None:
        """Unmap the peer's address; drop the header of other peers before Django's middleware reads it."""
        peer = request.META["REMOTE_ADDR"] = unmapped(request.META.get("REMOTE_ADDR", ""))
        if not in_networks(peer, settings.TRUSTED_PROXIES):
            request.META.pop("HTTP_X_FORWARDED_PROTO", None)


def client_address(scope: Mapping[str, Any]) -> str:
    """The client's address: the socket's, or the one a trusted proxy forwards for; "" if unknown.

    Behind a chain of proxies this is the rightmost untrusted address of X-Forwarded-For: the client may have
    written everything left of it.
    """
    peer = unmapped(str((scope.get("client") or [""])[0]))
    if not in_networks(peer, settings.TRUSTED_PROXIES):
        return peer
    forwarded = b",".join(value for name, value in scope["headers"] if name == b"x-forwarded-for")
    hops = [hop.strip() for hop in forwarded.decode("latin-1").split(",") if hop.strip()]
    for hop in reversed(hops):
        if not in_networks(hop, settings.TRUSTED_PROXIES):
            return unmapped(hop)
    return peer


def login_address(request: HttpRequest) -> str | None:
    """What wrong passwords are counted by: the client's address, of IPv6 its network's; None if unknown.

    A household or a server has a whole network of IPv6 addresses.
    """
    forwarded = request.META.get("HTTP_X_FORWARDED_FOR", "").encode("latin-1")
    scope = {"client": [request.META.get("REMOTE_ADDR", "")], "headers": [(b"x-forwarded-for", forwarded)]}
    address = address_of(client_address(scope))
    if isinstance(address, ipaddress.IPv6Address):
        address = ipaddress.IPv6Network((address, IPV6_SITE), strict=False).network_address
    return str(address) if address else None


def address_of(text: str) -> Address | None:
    """`text` as an address; None if it is none.

    A socket that listens on `::` gives its IPv4 peers as ::ffff:127.0.0.1: that is 127.0.0.1.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def unmapped(text: str) -> str:
    """The address as `address_of` understands it; what is no address stays as it is."""
    address = address_of(text)
    return text if address is None else str(address)


def in_networks(text: str, networks: Iterable[Network]) -> bool:
    """Whether `text` is an address in one of the networks, which may be written as ::ffff:10.0.0.0/104."""
    address = address_of(text)
    if address is None:
        return False
    ways = [address]
    if isinstance(address, ipaddress.IPv4Address):
        ways.append(ipaddress.IPv6Address(f"::ffff:{address}"))
    return any(way in network for way in ways for network in networks)
