"""The pacer against simulated clients in virtual time: a whole call takes milliseconds."""

import heapq
import math
import random
from dataclasses import dataclass, field

import pytest

from calls.audio.format import BYTES_PER_SECOND
from calls.gateway.reading import Reading
from calls.rustpbx.pacer import Pacer, State

CADENCE_BYTES = 1024  # of the VAD
WIRE_S = 0.0005  # one way


def after(when, stalls):
    """`when`, or the end of the stall that it falls into."""
    return next((end for start, end in stalls if start <= when < end), when)


@dataclass
class Simulation:
    """A client, the pacer and a wire between them."""

    kind: str
    frame_s: float = 0.01
    agent_speaks: tuple[float, float] = (0, 0)
    jitter_s: float = 0.0
    pauses: tuple[tuple[float, float], ...] = ()
    lost: tuple[float, ...] = ()
    client_stalls: tuple[tuple[float, float], ...] = ()
    server_stalls: tuple[tuple[float, float], ...] = ()
    read_at: float | None = None  # until then, what arrives lies unread
    unread: int = 0
    reads: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)  # when reading was put off
    now: float = 0.0
    events: list = field(default_factory=list)
    order: int = 0
    queue: list = field(default_factory=list)
    lags: list = field(default_factory=list)
    pings: list = field(default_factory=list)
    held: bool = True
    last_release: float = 0.0

    def at(self, when, action, *args):
        self.order += 1
        heapq.heappush(self.events, (when, self.order, action, args))

    def run(self, seconds):
        self.rng = random.Random(7)
        self.pacer = Pacer(0.0)
        self.reading = Reading(self.pacer.clock, CADENCE_BYTES)
        self.at(0.0, self.to_client)  # `connected`
        n = 0
        while n * self.frame_s < seconds:
            due = 0.05 + n * self.frame_s
            n += 1
            if not any(a <= due < b for a, b in self.pauses) and n not in self.lost:
                self.at(due + self.rng.random() * self.jitter_s, self.speak, due)
        t, end = self.agent_speaks
        while t < end:
            self.at(after(t, self.server_stalls), self.to_client)
            t += 0.02
        if self.kind == "new":
            self.at(0.1, self.give_up_lock)
        self.plan_poll()
        while self.events and self.events[0][0] < seconds + 0.3:
            self.now, _, action, args = heapq.heappop(self.events)
            action(*args)
        return self

    def speak(self, due):
        if self.kind == "nagle":
            self.at(math.ceil(self.now / 0.04) * 0.04, self.arrive)
            return
        self.queue.append(due)
        if self.kind == "free" or not self.held:
            self.flush(1)

    def flush(self, most):
        for _ in range(min(most, len(self.queue))):
            due = self.queue.pop(0)
            self.lags.append(self.now - due)
            self.at(after(self.now + WIRE_S, self.server_stalls), self.arrive)
            self.held = True

    def arrive(self):
        self.unread += 1
        if self.read_at is None:
            self.read(None)

    def read(self, planned_at):
        """Read all there is; plan the next reading as for windows of 32 ms."""
        if planned_at != self.read_at:
            return  # planned anew since
        self.read_at = None
        if not self.unread:
            return
        frames, self.unread = self.unread, 0
        self.reads.append(self.now)
        if self.pacer.frame(self.now, frames * self.frame_s, frames):
            self.ping()
        if self.pacer.deadline < self.poll_at:
            self.plan_poll()
        self.reading.arrived(self.now, round(frames * self.frame_s * BYTES_PER_SECOND), frames)
        plan = self.reading.plan(self.now, steady=self.pacer.is_steady)
        self.read_at = plan and plan[1]
        self.pacer.unread_until(self.read_at, self.now)
        if self.read_at is not None:
            self.waits.append(self.now)
            self.at(self.read_at, self.read, self.read_at)

    def plan_poll(self):
        self.poll_at = max(self.pacer.deadline, self.now + 0.0001)
        self.at(after(self.poll_at, self.server_stalls), self.poll, self.poll_at)

    def poll(self, planned_at):
        if planned_at != self.poll_at:
            return  # planned anew since
        if self.now >= self.pacer.deadline and self.read_at is not None:
            self.read(self.read_at)
        if self.pacer.poll(self.now):
            self.ping()
        self.plan_poll()

    def ping(self):
        self.pings.append(self.now)
        self.to_client()

    def to_client(self):
        self.pacer.sent(self.now)
        self.at(after(self.now + WIRE_S, self.client_stalls), self.release)

    def release(self):
        """The reader got a message: it gives the lock up once, then waits again (and holds it)."""
        self.last_release = self.now
        if self.kind == "seed":
            self.flush(1)
        elif self.kind == "new":
            self.flush(len(self.queue))

    def give_up_lock(self):
        if self.now - self.last_release >= 0.0999:
            self.release()
        self.at(max(self.last_release, self.now - 0.1 + 0.0001) + 0.1, self.give_up_lock)


@pytest.mark.parametrize("frame_s", [0.01, 0.02])
@pytest.mark.parametrize("agent_speaks", [(0, 0), (0.06, 8.0)])
@pytest.mark.parametrize("kind", ["seed", "new"])
def test_a_held_client_gets_its_frames_through(kind, frame_s, agent_speaks):
    sim = Simulation(kind, frame_s=frame_s, agent_speaks=agent_speaks).run(10)
    assert len(sim.lags) >= 0.99 * 10 / frame_s
    assert sum(sim.lags) / len(sim.lags) <= (0.020 if kind == "seed" else 0.015)
    assert max(sim.lags) <= 0.080


@pytest.mark.parametrize("kind", ["seed", "new"])
def test_the_generation_is_told(kind):
    sim = Simulation(kind).run(3)
    assert sim.pacer.generation == kind


def random_stalls(rng, seconds):
    """A process that is now and then busy for up to 80 ms."""
    stalls, t = [], 0.0
    while t < seconds:
        t += rng.uniform(0.02, 0.3)
        stalls.append((t, t + rng.uniform(0.005, 0.08)))
        t = stalls[-1][1]
    return tuple(stalls)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["seed", "new"])
def test_a_held_client_is_known_in_spite_of_busy_processes(kind, seed):
    """The agent speaks and both sides stall, so much is in flight at once. Then both are quiet."""
    rng = random.Random(seed)
    sim = Simulation(kind, agent_speaks=(0.06, 4.0))
    sim.client_stalls, sim.server_stalls = random_stalls(rng, 5), random_stalls(rng, 5)
    sim.run(9)
    late = sim.lags[-100:]
    assert sim.pacer.generation == kind
    assert sum(late) / len(late) <= 0.020


def test_a_free_client_whose_kernel_sends_in_bursts_is_soon_let_be():
    """Nagle's algorithm against delayed acknowledgements: four frames every 40 ms, whatever we send."""
    sim = Simulation("nagle").run(20)
    assert sim.pacer.generation == "free"
    assert len([at for at in sim.pings if at > 3.0]) <= 17


@pytest.mark.parametrize("jitter_s", [0.0, 0.015])
def test_a_free_client_gets_at_most_a_ping_a_second(jitter_s):
    sim = Simulation("free", jitter_s=jitter_s).run(20)
    streaming = [t for t in sim.pings if t > 0.05]
    assert len(streaming) <= 20
    assert sim.pacer.generation == "free"


def test_a_free_client_that_loses_frames_is_not_taken_for_held():
    lost = tuple(range(300, 320))
    sim = Simulation("free", jitter_s=0.012, lost=lost).run(20)
    assert len([t for t in sim.pings if t > 0.05]) <= 20
    assert sim.pacer.state is State.WATCHING


def test_a_free_client_that_pauses_and_goes_on_is_not_taken_for_held():
    sim = Simulation("free", pauses=((2.0, 5.0), (7.0, 7.6))).run(12)
    assert sim.pacer.state is State.WATCHING
    assert len([t for t in sim.pings if t > 0.05]) <= 14


def test_a_client_wrongly_believed_held_is_let_go():
    sim = Simulation("free", pauses=((1.0, 1.1), (1.2, 1.3), (1.4, 1.5), (1.6, 1.7))).run(12)
    assert sim.pacer.state is State.WATCHING
    assert not [t for t in sim.pings if 6.0 < t < 12.0]


def test_a_stall_of_our_own_process_is_no_evidence():
    pacer = Pacer(0.0)
    now = 0.05
    for _ in range(50):
        pacer.frame(now, 0.01)
        now += 0.01
    assert not pacer.poll(now + 0.2)  # the timer fires late, with frames still unread in the socket


@pytest.mark.parametrize("kind", ["seed", "new"])
def test_a_held_client_that_goes_silent_is_asked_every_20_ms_for_a_second(kind):
    sim = Simulation(kind, pauses=((3.0, 3.9),)).run(6)
    assert max(sim.lags) <= 0.080
    assert 40 <= len([t for t in sim.pings if 3.1 < t < 3.9]) <= 42


@pytest.mark.parametrize("kind", ["seed", "new", "free", "nagle"])
def test_after_a_second_without_audio_a_ping_a_second_is_sent(kind):
    sim = Simulation(kind, pauses=((3.0, 100.0),)).run(23)
    assert 15 <= len([t for t in sim.pings if 4.1 < t < 23]) <= 19


def test_a_client_that_never_sends_audio_gets_a_ping_a_second_too():
    sim = Simulation("new", pauses=((0.0, 100.0),)).run(21)
    assert 30 <= len([t for t in sim.pings if t < 1]) <= 34
    assert 19 <= len([t for t in sim.pings if t > 1]) <= 20


def test_a_held_client_that_speaks_again_is_soon_heard_in_time():
    """Its first frame may wait for a second, and then no other does."""
    sim = Simulation("seed", pauses=((3.0, 8.5),)).run(12)
    assert max(sim.lags) <= 1.0
    assert max(sim.lags[350:]) <= 0.080  # from half a second after


def test_a_client_that_streams_steadily_is_read_by_the_window():
    sim = Simulation("free").run(10)
    assert len([t for t in sim.reads if t > 1.0]) < 900 / 2.5
    assert not [t for t in sim.pings if 0.05 < t < 10.0]


def test_a_client_whose_kernel_waits_for_acknowledgements_is_read_as_it_sends():
    """But for a few tries, each of which would hold its audio up."""
    sim = Simulation("nagle").run(9)
    assert len(sim.waits) < 30


@pytest.mark.parametrize("kind", ["seed", "new"])
def test_a_held_client_is_never_left_unread(kind):
    assert not Simulation(kind).run(5).pacer.is_steady


def test_nothing_is_known_before_the_first_frame():
    pacer = Pacer(0.0)
    assert pacer.generation == ""
    assert not pacer.poll(0.01)
    assert pacer.poll(0.03)
