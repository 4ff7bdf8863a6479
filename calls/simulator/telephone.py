"""A telephone call at RustPBX 0.5: its IVR asks an HTTP service, step by step, and does what it is told.

It does what RustPBX does, its surprises included: several answers leave the caller in silence for good, and
nothing tells so.
"""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from calls.simulator.call import run_call
from calls.simulator.outcome import CallReport
from calls.simulator.packets import Packets
from calls.simulator.script import Step

if TYPE_CHECKING:
    import aiohttp

HANGS_UP_S = 3.0  # from the order to the BYE
PLAYS_OUT_S = 5.0  # of what it has got of the voice, once our connection is closed
EATEN = ("samplerate", "codec", "timeout_ms")
QUEUE_UNKNOWN_S = 0.025


@dataclass(frozen=True)
class Target:
    """Where a call is handed on to: it is `busy`, or answers and talks for `talks_s`."""

    busy: bool = True
    talks_s: float = 0.0


@dataclass(frozen=True)
class Ivr:
    """The IVR's file: the service's URL and token, and how often and how long it is asked."""

    url: str
    token: str
    webhook: str = ""
    max_retries: int = 2
    retry_delay_s: float = 0.2
    timeout_s: float = 3.0
    has_error_sound: bool = False  # sounds/error.wav is not shipped


@dataclass
class Heard:
    """What the caller had: `silence` says why nobody hears him any more, "" if that is not so."""

    silence: str = ""
    ended_by: str = ""  # caller or system
    answers: list[dict[str, Any]] = field(default_factory=list)
    reports: list[CallReport] = field(default_factory=list)
    played: list[bytes] = field(default_factory=list)  # WAV files
    rang: list[str] = field(default_factory=list)
    asked_ms: list[float] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """What the service answered, in order."""
        return [answer.get("type", "") for answer in self.answers]


class Telephone:
    """One telephone call.

    Args:
        http: asks the service.
        ivr: how.
        scripts: what the caller does on each bridge, one after another; the last of them on any further one.
        caller, callee: SIP URIs.
        targets: where calls may be handed on to; others are unknown.
        packets: the caller's network.
    """

    def __init__(
        self,
        http: "aiohttp.ClientSession",
        ivr: Ivr,
        session_id: str,
        scripts: Sequence[Sequence[Step]],
        *,
        caller: str = "sip:1001@127.0.0.1:5062",
        callee: str = "sip:agent@127.0.0.1:5060;transport=UDP",
        targets: dict[str, Target] | None = None,
        packets: Packets | None = None,
    ) -> None:
        self.session_id = session_id
        self.heard = Heard()
        self.silent = asyncio.Event()  # nobody hears the caller: for good, unless somebody does something
        self._http = http
        self._ivr = ivr
        self._scripts = list(scripts)
        self._caller, self._callee = caller, callee
        self._targets = targets or {}
        self._packets = packets
        self._bridges = 0
        self._step = 0
        self._orders: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def order(self, action: dict[str, Any]) -> None:
        """Something comes from outside: an answer of the IVR's kind, or {"type": "ask", variables}."""
        self.silent.clear()
        self._orders.put_nowait(action)

    async def run(self) -> Heard:
        """Answer the call and do what the service says until it is over; stays in silence if that is so."""
        await self._notify("/start", {})
        action: dict[str, Any] | None = {"type": "ask", "variables": {}}
        while action is not None:
            doing = asyncio.create_task(self._do(action))
            ordered = asyncio.create_task(self._orders.get())
            await asyncio.wait({doing, ordered}, return_when=asyncio.FIRST_COMPLETED)
            if ordered.done():
                doing.cancel()
                with suppress(asyncio.CancelledError):
                    await doing
                self.heard.silence = ""
                self.silent.clear()
                action = ordered.result()
            else:
                ordered.cancel()
                action = doing.result()
        if self._ivr.webhook:
            event = {"hangup_by": self.heard.ended_by, "reason": "BYE"}
            told = {"event_type": "call_hangup", "call_id": self.session_id, "event": event}
            await self._post(self._ivr.webhook, told)
        return self.heard

    async def _do(self, action: dict[str, Any]) -> dict[str, Any] | None:
        """Carry an answer out; what comes next, None once the call is over."""
        match action:
            case {"type": "ask"}:
                return await self._ask(action.get("event", {"type": "session_start"}), action["variables"])
            case {"type": "hangup" | "play_and_hangup", "prompt": str(prompt)} if prompt:
                return await self._play({"type": "prompt", "file": prompt})  # it does not hang up
        does = {
            "hangup": self._hang_up,
            "prompt": self._play,
            "bridge": self._bridge,
            "voip_bridge": self._bridge,
            "transfer": self._transfer,
            "queue": self._queue,
        }.get(action.get("type", ""))
        return await (does(action) if does else self._silence(f"answered {action.get('type')!r}"))

    async def _hang_up(self, _action: dict[str, Any]) -> None:
        await asyncio.sleep(HANGS_UP_S)
        self.heard.ended_by = "system"

    async def _silence(self, why: str) -> dict[str, Any]:
        """Nothing happens any more, and nothing is told."""
        self.heard.silence = why
        self.silent.set()
        await asyncio.Event().wait()
        raise AssertionError

    # --- The service --------------------------------------------------------------------------------------

    async def _ask(self, event: dict[str, Any], variables: dict[str, str]) -> dict[str, Any]:
        if event["type"] == "session_start":
            self._step = 0
        question = {
            "session_id": self.session_id,
            "caller": self._caller,
            "callee": self._callee,
            "direction": "inbound",
            "variables": {"sip_Authorization": "Digest secret", **variables},
            "sip_headers": {"Authorization": "Digest secret", "X-Customer": "7"},
            "event": event,
            "step_index": self._step,
        }
        self._step += 1
        for attempt in range(self._ivr.max_retries):
            if attempt:
                await asyncio.sleep(self._ivr.retry_delay_s)
            began = time.monotonic()
            answer = await self._post(self._ivr.url, question, self._ivr.timeout_s)
            if answer and "type" in answer:
                self.heard.asked_ms.append((time.monotonic() - began) * 1000)
                self.heard.answers.append(answer)
                return answer
        if self._ivr.has_error_sound:
            return {"type": "hangup"}
        return await self._silence("the service did not answer")

    async def _notify(self, path: str, body: dict[str, Any]) -> None:
        await self._post(self._ivr.url + path, {"session_id": self.session_id, **body}, None)

    async def _post(
        self, url: str, body: dict[str, Any], timeout: float | None = 3.0
    ) -> dict[str, Any] | None:
        """The JSON object that is answered; None for anything else."""
        import aiohttp

        headers = {"Authorization": f"Bearer {self._ivr.token}"}
        try:
            async with (
                asyncio.timeout(timeout),
                self._http.post(url, json=body, headers=headers) as answer,
            ):
                text = await answer.text()
                told = json.loads(text) if answer.status == 200 else None
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
        return told if isinstance(told, dict) else None

    # --- What it is told ----------------------------------------------------------------------------------

    async def _play(self, action: dict[str, Any]) -> dict[str, Any]:
        import aiohttp

        try:
            async with self._http.get(action.get("file") or "") as answer:
                wav = await answer.read() if answer.status == 200 else b""
        except (aiohttp.ClientError, OSError, ValueError):
            wav = b""
        if wav[:4] != b"RIFF":
            return await self._silence("a file that is not there")
        await asyncio.sleep(len(wav) / (2 * 8000))
        self.heard.played.append(wav)
        return action.get("next") or {"type": "ask", "event": {"type": "audio_complete"}, "variables": {}}

    async def _bridge(self, action: dict[str, Any]) -> dict[str, Any] | None:
        await self._notify("/end", {"reason": "transfer", "detail": action["create_room_uri"]})
        parts = urlsplit(action["create_room_uri"])
        query = parse_qsl(parts.query, keep_blank_values=True)
        eaten = {name: value for name, value in query if name in EATEN}
        returns = {name: value for name, value in query if name.startswith("return_")}
        left = [pair for pair in query if pair[0] not in eaten and pair[0] not in returns]
        url = urlunsplit(parts._replace(query=urlencode(left)))
        script = self._scripts[min(self._bridges, len(self._scripts) - 1)]
        self._bridges += 1
        report = await run_call(
            script,
            url=url,
            generation="bridge",
            frame_ms=20,
            rate=int(eaten.get("samplerate", 8000)),
            packets=self._packets,
            connects_within_s=int(eaten["timeout_ms"]) / 1000 if "timeout_ms" in eaten else None,
        )
        self.heard.reports.append(report)
        if report.configure_ms is None:
            return await self._silence(f"no bridge: {report.failure}")
        if report.closed_by == "caller":
            self.heard.ended_by = "caller"
            return None
        await asyncio.sleep(min(PLAYS_OUT_S, max(0.0, report.unplayed_s)))
        if not action.get("return_app"):
            return await self._silence("the bridge ended, and there is no return_app")
        return {"type": "ask", "variables": returns}

    async def _transfer(self, action: dict[str, Any]) -> dict[str, Any] | None:
        target = self._targets.get(action["target"], Target())
        self.heard.rang.append(action["target"])
        await asyncio.sleep(target.talks_s)
        if not action.get("wait_for_result"):
            if target.busy:
                return await self._silence("a transfer that came to nothing")
            self.heard.ended_by = "callee"
            return None
        result = "not_connected" if target.busy else "target_ended"
        return {"type": "ask", "event": {"type": "transfer_result", "result": result}, "variables": {}}

    async def _queue(self, action: dict[str, Any]) -> dict[str, Any] | None:
        target = self._targets.get(action["target"])
        self.heard.rang.append(action["target"])
        await asyncio.sleep(target.talks_s if target else QUEUE_UNKNOWN_S)
        if not action.get("return_target") or "?" in action["target"]:
            return await self._silence("a queue without a way back")
        return {"type": "ask", "variables": {}}
