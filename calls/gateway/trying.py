"""A browser that tries the agent out: who may, by login, and with which profile."""

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth.models import User
from django.http import HttpRequest

from calls.conversation.control import NoControl
from calls.gateway import proxies
from calls.gateway.admission import header, no_room, query_of
from calls.gateway.arrival import Arrival
from calls.gateway.pbx import database
from calls.gateway.refusing import Refusal, count_refusal
from calls.models import TrialTicket
from calls.profiles.choosing import ChosenProfile
from calls.rustpbx import codec
from calls.rustpbx.dialect import browser_dialect
from calls.rustpbx.messages import Error, ErrorCode
from calls.rustpbx.outgoing import now_ms

logger = logging.getLogger(__name__)

READ_S = 2.0
TICKET, MODE, TYPED = "ticket", "mode", "type"  # of the socket's URL
MAY_TRY = "calls.view_promptprofile"
NO_ROOM = "The server takes no more calls now. Try again in a moment."
EXPIRED = "The form's values were kept for ten minutes, and for one call. Press the button again."


class Unusable(Exception):
    """What the browser wants to try cannot be had; the text says why, for people."""


def failure(why: str) -> str:
    """The message that tells the browser why there is no call."""
    return codec.encode(Error(timestamp=now_ms(), message=why, code=ErrorCode.NOT_FOUND))


class BrowserControl(NoControl):
    """Of a browser: its call is hung up when the socket closes."""

    async def end(self) -> None:
        """Do nothing: closing the socket is all it takes."""


async def user_of(scope: Mapping[str, Any]) -> User | Refusal:
    """Who is logged in in this browser and may try the agent out, or why the request is refused."""
    if not _is_from_our_page(scope):
        return Refusal(HTTPStatus.FORBIDDEN, "expected a page of this server, got another or none")
    key = _session_key(scope)
    try:
        async with asyncio.timeout(READ_S):
            user = await database.run(lambda: _allowed(key)) if key else None
    except Exception as e:
        logger.error("a login could not be read: %s: %s", type(e).__name__, e)
        return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "expected a database that answers")
    return user or Refusal(HTTPStatus.FORBIDDEN, "expected somebody who is logged in and may see profiles")


async def arrive(scope: Mapping[str, Any], user: User) -> Arrival:
    """The browser's call: with the values that its ticket stands for, or the profile that its URL names.

    Raises:
        Unusable: the server takes no call now, the ticket is not valid, or the database does not answer.
    """
    query = query_of(scope)
    chosen = None
    if ticket := query.get(TICKET):
        try:
            async with asyncio.timeout(READ_S):
                chosen = await database.run(lambda: _redeemed(ticket, user.pk))
        except Exception as e:
            logger.error("a ticket could not be read: %s: %s", type(e).__name__, e)
            raise Unusable("The database does not answer.") from e
        if chosen is None:
            raise Unusable(EXPIRED)
    if no_room():
        count_refusal()
        raise Unusable(NO_ROOM)
    return Arrival(
        control=BrowserControl(),
        told={"is_test": True, "caller": user.get_username()},
        dialect=browser_dialect(typed=query.get(MODE) == TYPED),
        chosen=chosen,
    )


def _is_from_our_page(scope: Mapping[str, Any]) -> bool:
    """Whether the page is one of the very address that was asked: a login's cookie goes to every port."""
    origin = header(scope, b"origin")
    if origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    page = urlsplit(origin)
    ours = "https" if _is_secure(scope) else "http"
    return bool(page.netloc) and (page.scheme, page.netloc.lower()) == (ours, header(scope, b"host").lower())


def _is_secure(scope: Mapping[str, Any]) -> bool:
    if scope.get("scheme") == "wss":
        return True
    peer = proxies.unmapped(str((scope.get("client") or [""])[0]))
    is_proxy = proxies.in_networks(peer, settings.TRUSTED_PROXIES)
    return is_proxy and header(scope, b"x-forwarded-proto") == "https"


def _session_key(scope: Mapping[str, Any]) -> str:
    try:
        cookie = SimpleCookie(header(scope, b"cookie")).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return ""
    return cookie.value if cookie else ""


def _allowed(session_key: str) -> User | None:
    """The user of the session, if there is one who may try the agent out."""
    request = HttpRequest()
    request.session = import_module(settings.SESSION_ENGINE).SessionStore(session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.has_perm(MAY_TRY) else None


def _redeemed(ticket: str, user_id: int) -> ChosenProfile | None:
    found = TrialTicket.objects.redeem(ticket, user_id)
    if found is None:
        return None
    return ChosenProfile(None, 0, found.slug, found.name, found.configuration, draft_of=found.profile_id)
