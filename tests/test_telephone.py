"""The stand-in for RustPBX does what RustPBX does: also where that leaves the caller in silence."""

import asyncio

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from calls.simulator.packets import Packets
from calls.simulator.pbx import Pbx
from calls.simulator.telephone import Ivr, Target

WAV = b"RIFF" + bytes(160)


class Service:
    """Answers the questions of an IVR one after another with what it is given."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked, self.noted = [], []

    async def __aenter__(self):
        app = web.Application()
        app.router.add_post("/ivr", self.step)
        app.router.add_post("/ivr/{note}", self.note)
        app.router.add_post("/webhook", self.note)
        app.router.add_get("/a.wav", self.wav)
        self.server = TestServer(app)
        await self.server.start_server()
        self.url = str(self.server.make_url("")).rstrip("/")
        return self

    async def __aexit__(self, *_):
        await self.server.close()

    async def step(self, request):
        self.asked.append(await request.json())
        answer = self.answers.pop(0) if self.answers else {}
        return web.json_response(answer if isinstance(answer, dict) else answer(self))

    async def note(self, request):
        self.noted.append((request.path, await request.json()))
        return web.json_response({})

    async def wav(self, _request):
        return web.Response(body=WAV)


async def heard(*answers, silent=False, **options):
    async with Service(*answers) as service, Pbx() as pbx:
        ivr = Ivr(f"{service.url}/ivr", "token", f"{service.url}/webhook", retry_delay_s=0.0)
        telephone = pbx.call(ivr, [], **options)
        running = asyncio.create_task(telephone.run())
        async with asyncio.timeout(20):
            await (telephone.silent.wait() if silent else running)
        running.cancel()
        return telephone.heard, service


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        ([], "did not answer"),
        ([{}, {}], "did not answer"),
        ([{"type": "transfer", "target": "x"}], "came to nothing"),
        ([{"type": "voicemail", "target": "x"}], "voicemail"),
        ([{"type": "exit"}], "exit"),
        ([lambda service: {"type": "prompt", "file": f"{service.url}/b.wav"}], "not there"),
        ([{"type": "prompt", "file": "sounds/nothing.wav"}], "not there"),
        ([{"type": "queue", "target": "q"}], "without a way back"),
        ([{"type": "queue", "target": "q?a=b", "return_target": "v"}], "without a way back"),
        ([{"type": "bridge", "create_room_uri": "ws://127.0.0.1:9/x?timeout_ms=500", "return_app": "ivr"}],
         "no bridge"),
    ],
)  # fmt: skip
async def test_silence_for_good(answers, why):
    had, service = await heard(*answers, silent=True)
    assert why in had.silence
    assert had.ended_by == ""
    assert not [path for path, _ in service.noted if path == "/webhook"]


async def test_it_hangs_up_and_tells():
    had, service = await heard({"type": "hangup"})
    assert (had.ended_by, had.silence) == ("system", "")
    assert service.asked[0]["event"] == {"type": "session_start"}
    assert [path for path, _ in service.noted] == ["/ivr/start", "/webhook"]
    assert service.noted[-1][1]["event"]["hangup_by"] == "system"


async def test_a_hang_up_with_a_prompt_does_not_hang_up():
    file = lambda service: {"type": "hangup", "prompt": f"{service.url}/a.wav"}  # noqa: E731
    _, service = await heard(file, {"type": "hangup"})
    assert [asked["event"]["type"] for asked in service.asked] == ["session_start", "audio_complete"]


async def test_a_file_is_played_and_the_next_is_done():
    file = lambda service: {"type": "prompt", "file": f"{service.url}/a.wav", "next": {"type": "hangup"}}  # noqa: E731
    had, service = await heard(file)
    assert (had.played, len(service.asked)) == ([WAV], 1)


async def test_transfers_and_queues_come_back():
    transfer = {"type": "transfer", "target": "a", "wait_for_result": True}
    queue = {"type": "queue", "target": "q", "return_target": "v"}
    had, service = await heard(
        transfer, {**transfer, "target": "b"}, queue, {"type": "hangup"}, targets={"b": Target(busy=False)}
    )
    events = [asked["event"] for asked in service.asked]
    assert [event.get("result") for event in events] == [None, "not_connected", "target_ended", None]
    assert had.rang == ["a", "b", "q"]
    assert [asked["step_index"] for asked in service.asked] == [0, 1, 2, 0]


def test_packets():
    steady = [bytes([n]) for n in range(100)]
    assert [each for packet in steady for each in Packets()(packet)] == steady
    pairs = Packets(pairs=True)
    assert [len(pairs(packet)) for packet in steady[:4]] == [0, 2, 0, 2]
    habits = {"lost": 0.1, "swapped": 0.1, "doubled": 0.1}
    rough, again = Packets(**habits), Packets(**habits)
    came = [each for packet in steady for each in rough(packet)]
    assert len({*came}) < 100
    assert len(came) > len({*came})
    assert came != sorted(came)
    assert came == [each for packet in steady for each in again(packet)]
