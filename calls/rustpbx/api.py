"""What can be done at a RustPBX from outside: over its REST API, its RWI, and the API of its fork.

All of it is slower and less sure than the answer to a question of its IVR, and comes second.
"""

import asyncio
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from django.utils.dateparse import parse_datetime
from yarl import URL

from calls import redaction
from calls.models import Pbx

if TYPE_CHECKING:
    import aiohttp

WITHIN_S = 3.0
RETURNED_BY_US = "rwi"  # what the IVR is told of a caller that we have sent there
SAME_CALL_S = 1.5  # between the fork's answer and its connection to us


class ApiFailed(Exception):
    """The PBX did not do it; the text says what was expected and what came, and no token."""


@dataclass(frozen=True, slots=True)
class PbxApi:
    """A PBX's addresses.

    Attributes:
        url: of its HTTP server, without a slash at the end.
        api_token, rwi_token: "" if there is none.
    """

    url: str
    api_token: str = ""
    rwi_token: str = ""

    def __post_init__(self) -> None:
        for token in (self.api_token, self.rwi_token):
            redaction.remember(token)

    @classmethod
    def of(cls, pbx: Pbx) -> "PbxApi":
        """Those of this PBX. Raises Unreadable for tokens that cannot be decrypted."""
        return cls(pbx.console_url, pbx.api_token, pbx.rwi_token)

    @property
    def can_hang_up(self) -> bool:
        """Whether its REST API can be used."""
        return bool(self.url and self.api_token)

    @property
    def can_send_back(self) -> bool:
        """Whether its RWI can be used."""
        return bool(self.url and self.rwi_token)

    async def answers(self, path: str) -> bool:
        """Whether there is something at this path. Raises ApiFailed."""
        return await self._request("GET", path) is not None

    async def active(self) -> int:
        """How many calls it has. Raises ApiFailed."""
        answer = await self._request("GET", "/api/calls/active")
        calls = answer.get("data", answer.get("calls")) if isinstance(answer, dict) else answer
        return len(calls) if isinstance(calls, list) else 0

    async def hang_up(self, session_id: str) -> bool:
        """End the call, 3 s later; whether it was still there. Raises ApiFailed."""
        path = f"/api/calls/active/{quote(session_id, safe='')}/commands"
        return await self._request("POST", path, {"action": "hangup"}) is not None

    async def send_back(self, session_id: str, ivr: str) -> None:
        """Send the caller to the IVR, which then asks us. Raises ApiFailed."""
        target = f"ivr:{ivr}?return_from={RETURNED_BY_US}"
        await self._command("call.transfer", {"call_id": session_id, "target": target})

    async def check_rwi(self) -> None:
        """Do what changes nothing. Raises ApiFailed."""
        await self._command("session.list_calls", {})

    async def _command(self, action: str, params: dict[str, Any]) -> None:
        import aiohttp

        action_id = str(uuid.uuid4())
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                aiohttp.ClientSession() as session,
                session.ws_connect(f"{self.url}/rwi/v1", params={"token": self.rwi_token}) as socket,
            ):
                await socket.send_json({"action_id": action_id, "action": action, "params": params})
                await _success(socket, action_id)
        except aiohttp.WSServerHandshakeError as e:
            raise ApiFailed(f"RWI answered the connection with HTTP {e.status}") from None
        except TimeoutError:
            raise ApiFailed(f"RWI did not answer within {WITHIN_S:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise ApiFailed(f"RWI cannot be reached: {type(e).__name__}") from None

    # --- The fork -----------------------------------------------------------------------------------------

    async def kill_answered_at(self, at: datetime) -> None:
        """End the one call of the fork's that was answered then. Raises ApiFailed, also if there are more."""
        found = answered_at(await self._request("GET", "/ami/v1/lists"), at)
        if len(found) != 1:
            many = "no call" if not found else f"{len(found)} calls"
            raise ApiFailed(f"expected one call answered at {at:%H:%M:%S}, found {many}")
        await self._request("POST", f"/ami/v1/kill/{quote(found[0], safe='')}")

    async def _request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """The answer's JSON, {} for none, None for 404."""
        import aiohttp  # takes a tenth of a second, and few calls need it

        headers = {"Authorization": f"Bearer {self.api_token}"} if self.api_token else {}
        try:
            url = URL(self.url + path, encoded=True)  # an id may hold what is quoted
            async with (
                asyncio.timeout(WITHIN_S),
                aiohttp.ClientSession(headers=headers) as session,
                session.request(method, url, json=body, allow_redirects=False) as answer,
            ):
                if answer.status == HTTPStatus.NOT_FOUND:
                    return None
                if not HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
                    raise ApiFailed(f"{path} answered with HTTP {answer.status}")
                return _json(await answer.read())
        except TimeoutError:
            raise ApiFailed(f"{path} did not answer within {WITHIN_S:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as e:
            raise ApiFailed(f"{path} cannot be reached: {type(e).__name__}") from None


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return {}


async def _success(socket: "aiohttp.ClientWebSocketResponse", action_id: str) -> None:
    """Wait for the answer to a command among the events. Raises ApiFailed."""
    async for received in socket:
        message = _json(received.data if isinstance(received.data, bytes) else str(received.data).encode())
        if not isinstance(message, dict) or message.get("action_id") != action_id:
            continue
        if message.get("response") != "success":
            error = message.get("error")
            why = error.get("message") if isinstance(error, dict) else error
            raise ApiFailed(f"RWI refused: {str(why)[:100]}")
        return
    raise ApiFailed("RWI closed the connection without an answer")


def answered_at(listed: Any, at: datetime) -> Sequence[str]:
    """The ids of the calls in the fork's list that were answered within 1.5 s of `at`."""
    calls = listed.get("calls", listed.get("data")) if isinstance(listed, dict) else listed
    found = []
    for call in calls if isinstance(calls, list) else ():
        if not isinstance(call, dict) or not isinstance(call.get("id"), str):
            continue
        answered = _time(call.get("answer_time") or call.get("answerTime") or call.get("answered_at"))
        if answered is not None and abs((answered - at).total_seconds()) <= SAME_CALL_S:
            found.append(call["id"])
    return found


def _time(value: Any) -> datetime | None:
    try:
        time = parse_datetime(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is not None else None
