"""When to ping a client so that its frames get through. Pure: time comes in, decisions go out.

Both field generations of RustPBX guard their socket with one lock that the reader holds while it waits for
the server. The older one sends about one frame for each message it receives, the newer one gives the lock up
every 100 ms and then sends what has queued. So a server that only listens hears nothing, or hears it late.
Measured with the real clients and 10 ms frames, one ping for each frame and one after 20 ms of silence brings
999 of 1000 frames within 22 ms; a ping on a fixed 20 ms clock loses a quarter of them.

A client that reads and writes freely needs none of this. We tell the two apart by how far the audio is behind
the clock: when it falls behind we send a ping as a question, and if frames come in answer to it, twice in a
row, the client is held by its lock and every frame is answered from then on. That belief is tested again now
and then by not answering for a moment. The frames that have queued up by the end of such a test tell the two
generations apart: one of them never sends more frames than it got messages.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum

from calls.audio.beat import next_beat
from calls.rustpbx.clock import ROUNDING_S, AudioClock

SILENCE_S = 0.020  # a held client gets a ping after this long without one
OPENING_S = 0.030  # before the first frame, any message may be the one the client waits for
QUIET_S = 1.0  # after this long without a frame the caller may have hung up, of which RustPBX tells nothing
QUIET_PING_S = 1.0  # from then on
HELD_FRAMES = 3  # this many frames behind the clock: the client is held, not merely late
# A free client whose kernel waits for acknowledgements (Nagle's algorithm) sends in bursts every 40 ms: one
# that proved to be free may fall this far behind, and so may one under test.
TOLERANCE_S = 0.055
ANSWERS = 2  # pings answered by frames, in close succession, that prove the lock
ANSWERS_WITHIN_S = 0.300
COUNT_S = 0.005  # frames of one burst come within this
RECHECKS_S = (0.5, 2.0, 5.0, 30.0)  # after locking, test the belief after these; the last repeats
RETRY_RECHECK_S = 0.5  # after a test during which the agent spoke, which proves little
RECHECK_FOR_S = 0.200
UNASKED = 5  # frames that came without any message from us: no lock holds this client
SECOND_LOOK_S = 0.005  # frames that came while this process was busy have been read by then
TIMER_SLACK_S = 0.005  # a timer later than this says that we stalled, not the client
QUESTIONS = 4  # pings a client that is not held may get at once, and one more each second
PAUSE_S = 0.250  # a longer silence is the caller's side pausing, not a lock
STEADY_FRAMES = 20  # that came in a row without a message from us: this client is read when audio is needed
OVERDUE_S = 0.080  # what should have been there to read, and is not, raises doubts


class State(Enum):
    """What the pacer believes of the client."""

    OPENING = "no audio yet"
    WATCHING = "streams by itself, as far as we know"
    HELD = "sends in answer to our messages"
    TESTING = "was held; we keep quiet to see whether it still is"


@dataclass
class _Count:
    """What came and what went since a question; `sure` if nothing we sent before could still be answered."""

    sure: bool
    frames: int = 0
    messages: int = 0


class Pacer:
    """Paces one client. All times are seconds on one monotonic clock.

    The connection reports frames (`frame`), messages sent (`sent`) and how long it leaves frames unread
    (`unread_until`), calls `poll` at `deadline` or later, and sends a ping whenever `frame` or `poll` returns
    True. All of them move `deadline`; `frame` may bring it forward.
    """

    def __init__(self, now: float) -> None:
        self.state = State.OPENING
        self.clock = AudioClock(now)
        self.deadline = now + OPENING_S
        self._proved_free = False
        self._last_sent = now
        self._last_ping = now
        self._questions = float(QUESTIONS)
        self._questions_at = now
        self._answers: deque[float] = deque(maxlen=ANSWERS)
        self._asked = False  # a question is open: no frame has come since
        self._asked_at = -ANSWERS_WITHIN_S
        self._bursts = False  # more frames came than we sent messages
        self._sure = False  # nothing sent earlier could account for them
        self._count: _Count | None = None
        self._recheck = 0
        self._recheck_at = 0.0
        self._testing_since = 0.0
        self._sent_while_testing = 0
        self._frames_while_testing = 0
        self._looking_again = False
        self._unread_until: float | None = None
        self._unasked = 0  # frames since our last message
        self._steady = False

    @property
    def generation(self) -> str:
        """The client's generation as far as it can be told: "seed", "new", "free", "" before any audio."""
        if self.state is State.OPENING:
            return ""
        if self.state is State.WATCHING:
            return "free"
        return "new" if self._bursts else "seed"

    @property
    def is_steady(self) -> bool:
        """Whether the client streams on without any message from us: it need not be read for each frame."""
        return self.state is State.WATCHING and self._steady

    def unread_until(self, at: float | None, now: float) -> None:
        """What comes is left unread until `at`: nothing is known of it before. None: it is read at once."""
        self._unread_until = at
        if at is not None:
            self._plan(now)

    def frame(self, now: float, seconds: float, frames: int = 1) -> bool:
        """Account for so many seconds of audio in so many frames. True: answer with a ping."""
        paused = self.state is State.WATCHING and now - self.clock.last_frame > PAUSE_S
        self.clock.frame(now, seconds, frames, anew=paused or self.state is State.OPENING)
        if self.state is State.OPENING:
            self.state = State.WATCHING
        self._unasked += frames
        if self._unasked >= STEADY_FRAMES and self.state is State.WATCHING:
            self._steady = True
        if self._count is not None:
            self._count.frames += frames
        if self.state is State.HELD:
            return self._answer_held(now)
        if self.state is State.WATCHING:
            return self._note_answer(now)
        self._frames_while_testing += frames
        if self._frames_while_testing >= UNASKED and not self._sent_while_testing:
            self._let_go()
        self._plan(now)
        return False

    def sent(self, now: float) -> None:
        """Account for a message to the client, a ping or any other: each may release the lock."""
        self._last_sent = now
        self._unasked = 0
        if self._count is not None:
            self._count.messages += 1
        if self.state is State.TESTING:
            self._sent_while_testing += 1

    def poll(self, now: float) -> bool:
        """Decide at `deadline`. True: send a ping."""
        if now < self.deadline:
            return False
        sure = self._looking_again and now - self.deadline <= TIMER_SLACK_S
        ping = False
        if self.state is State.OPENING:
            ping = now - self._last_sent >= self._interval(now)
        elif self.state is State.HELD:
            silent = now - max(self.clock.last_frame, self._last_ping)
            ping = self._judge_count(now) or silent >= self._interval(now) - ROUNDING_S
        elif not sure:
            self._looking_again = True
            self.deadline = now + SECOND_LOOK_S
            return False
        elif self.state is State.TESTING:
            ping = self._judge_test(now)
        elif self._is_held(now):
            ping = self._ask(now)
        if ping:
            self._last_ping = self._last_sent = now
        self._plan(now)
        return ping

    def _interval(self, now: float) -> float:
        """Seconds between pings to a client that waits for them and sends nothing."""
        if now - self.clock.last_frame >= QUIET_S:
            return QUIET_PING_S
        return OPENING_S if self.state is State.OPENING else SILENCE_S

    # --- A client that may be free ------------------------------------------------------------------------

    def _is_held(self, now: float) -> bool:
        """Whether the client is too far behind, and silent, to be streaming by itself."""
        return (
            self.clock.behind(now) >= self._tolerance - ROUNDING_S
            and now - self.clock.last_frame >= 1.5 * self.clock.frame_s
            and now - self._last_ping >= SILENCE_S
        )

    @property
    def _tolerance(self) -> float:
        """Seconds the audio may be behind before we think of a lock."""
        held = HELD_FRAMES * self.clock.frame_s
        return max(held, TOLERANCE_S) if self._proved_free or self.state is State.TESTING else held

    def _ask(self, now: float) -> bool:
        """Send a ping as a question, within the budget of a client that needs none."""
        self._questions = min(QUESTIONS, self._questions + now - self._questions_at)
        self._questions_at = now
        if self._questions < self._questions_needed(now):
            return False
        self._questions -= 1
        self._asked = True
        self._steady = False
        self._asked_at = now
        self._count = _Count(sure=now - self._last_sent >= SILENCE_S)
        return True

    def _questions_needed(self, now: float) -> int:
        """What the budget must hold for a question: one alone proves nothing."""
        return 1 if now - self._asked_at <= ANSWERS_WITHIN_S else ANSWERS

    def _note_answer(self, now: float) -> bool:
        """A frame came: was it the answer to a question, and does that prove the lock?"""
        if self._asked:
            self._asked = False
            self._answers.append(now)
            if len(self._answers) == ANSWERS and now - self._answers[0] <= ANSWERS_WITHIN_S:
                self.state = State.HELD
                self._recheck_at = now + RECHECKS_S[0]
                return self._answer_held(now)
        self._plan(now)
        return False

    # --- A client that is held ----------------------------------------------------------------------------

    def _answer_held(self, now: float) -> bool:
        """Answer a held client's frame, unless it is time to test whether it is still held."""
        if now >= self._recheck_at and self.clock.behind(now) < self.clock.frame_s:
            self.state = State.TESTING
            self._testing_since = now
            self._sent_while_testing = 0
            self._frames_while_testing = 0
            self._plan(now)
            return False
        if self._count is not None and self._count.frames > 1:
            return False  # the deadline stands
        self._last_ping = self._last_sent = now
        self._plan(now)
        return True

    def _judge_count(self, now: float) -> bool:
        """End the count when it is time. True: frames have come that were left without an answer for it."""
        count, since = self._count, now - self._last_ping
        if count is None or not count.frames or since < COUNT_S:
            return False
        told = count.frames >= count.messages  # else some are still on their way
        if not told and since < SILENCE_S:
            return False
        self._count = None
        if told and (count.sure or not self._sure):
            proved = self._sure and self._bursts  # a busy client's burst may come in parts another time
            self._bursts, self._sure = proved or count.frames > count.messages, count.sure
        return count.frames > 1

    def _judge_test(self, now: float) -> bool:
        """End the test once it has shown something. True: still held, and here is the ping it waits for."""
        if self._is_held(now):
            self.state = State.HELD
            self._count = _Count(sure=not self._sent_while_testing)
            if self._count.sure:
                self._recheck = min(self._recheck + 1, len(RECHECKS_S) - 1)
            known = self._sure or self._count.sure
            self._recheck_at = now + (RECHECKS_S[self._recheck] if known else RETRY_RECHECK_S)
            return True
        if now - self._testing_since < RECHECK_FOR_S:
            return False
        if self._sent_while_testing:  # the agent spoke: any of its messages may have released the lock
            self.state = State.HELD
            self._recheck_at = now + RETRY_RECHECK_S
            return True
        self._let_go()
        return False

    def _let_go(self) -> None:
        self.state = State.WATCHING
        self._proved_free = True
        self._answers.clear()
        self._bursts = self._sure = False
        self._count = None

    def _plan(self, now: float) -> None:
        """Set the time of the next look."""
        self._looking_again = False
        if self.state is State.OPENING:
            self.deadline = self._last_sent + self._interval(now)
        elif self.state is State.HELD:
            self.deadline = max(self.clock.last_frame, self._last_ping) + self._interval(now)
            if self._count is not None and self._count.frames:
                self.deadline = min(self.deadline, now + COUNT_S)
        else:
            held_at = self.clock.heard_until + self._tolerance
            if self._unread_until is not None:  # until then nothing is known
                held_at = max(held_at, self._unread_until + OVERDUE_S)
            silent_at = self.clock.last_frame + 1.5 * self.clock.frame_s
            self.deadline = max(held_at, silent_at, self._last_ping + SILENCE_S, now + 0.005)
            if self.state is State.TESTING:
                self.deadline = min(self.deadline, max(self._testing_since + RECHECK_FOR_S, now + 0.005))
            elif (missing := self._questions_needed(now) - self._questions) > 0:
                self.deadline = max(self.deadline, self._questions_at + missing)
            if self._unread_until is not None:
                self.deadline = next_beat(self.deadline)
