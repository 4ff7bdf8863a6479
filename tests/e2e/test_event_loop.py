"""The server's event loop goes round while the embedded models work."""

import gc
import json
import threading
import time
from contextlib import contextmanager

from websockets.sync.client import connect

from calls.simulator.call import call_url, run_call
from calls.simulator.script import Interrupt, WaitForAgent
from tests.e2e.speech import RATE, say

LONGEST_STALL_S = 0.1
PING_EVERY_S = 0.005


@contextmanager
def pinged(server):
    """Gathers how long the server took to answer each of many pings, in s, less its wait for a processor."""
    answers, stop = [], threading.Event()

    def ping():
        with connect(server.url) as ws:
            while not stop.wait(PING_EVERY_S):
                began, waited = time.monotonic(), server.waited_s()
                ws.send(json.dumps({"command": "ping", "timestamp": len(answers)}))
                while json.loads(ws.recv(timeout=10)) != {"type": "pong", "timestamp": len(answers)}:
                    pass
                answers.append(time.monotonic() - began - (server.waited_s() - waited))

    pinging = threading.Thread(target=ping)
    gc.disable()  # a pause of this process is none of the server's
    pinging.start()
    try:
        yield answers
    finally:
        stop.set()
        pinging.join()
        gc.enable()


async def test_no_embedded_model_holds_up_the_event_loop(agent):
    """Their work on a long sentence, an interruption, what the caller says, and the answer to that."""
    at_once = say("I would like to order two large pizzas.")[RATE:]
    script = [Interrupt(at_once, after_s=0.5), WaitForAgent(0.3)]
    with pinged(agent) as answers:
        report = await run_call(script, url=call_url(agent.url, profile="breathless"), room_id="breathless")
    assert report.failure is None
    assert report.in_vain == []
    assert {message["key"] for message in report.of("metrics")} == {
        "stt", "llm_ttft", "tts_ttfb", "turn_latency",
    }  # fmt: skip
    assert len(answers) > 200
    assert max(answers) < LONGEST_STALL_S
