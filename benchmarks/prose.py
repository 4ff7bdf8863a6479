"""The text of docs/performance.md that does not depend on the figures."""

from benchmarks import figures as f


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


STOP, START = _ms(f.VAD_STOP_S), _ms(f.VAD_START_S)
WORDS, TOKEN, NEXT = _ms(f.STT_FINAL_S), _ms(f.LLM_FIRST_TOKEN_S), _ms(f.TOKEN_S)
SENTENCE, VOICE, FIXED = _ms(f.LLM_FIRST_SENTENCE_S), _ms(f.TTS_FIRST_AUDIO_S), _ms(f.FIXED_TURN_S)
PACING, LAG = round(f.BROKEN_PACING_P99_MS), round(f.BROKEN_LAG_P95_MS)
LATE, SHARED = round(f.GENERATOR_LATE_P95_MS), round(f.SHARED_CORE_PCT)

OPENING = """# Performance: how many calls one core carries

`make bench` wrote this page and measured what is on it. It compares this server with Pipecat used the usual
way (its FastAPI WebSocket transport under uvicorn, its own voice activity detection and smart turn for each
call, as its examples show) under the same load, on one core. Times are in milliseconds unless said
otherwise.
"""

SERVERS = """The same application under the servers it runs on, one run each, with clients that stream
freely.
"""

CLIENTS = """RustPBX's clients guard their socket with a lock that their reader holds, so that their frames
come only in answer to messages, and each frame is answered with a `ping` (see [the protocol](protocol.md)).
That doubles the messages of a call. One run each under Daphne; `seed` is the older client, `new` the newer.
The frame delay here includes the wait for the client's own lock. There is no baseline to compare with: from
the older client a server that only answers hears nothing.
"""

CHURN = """After a hundred calls to warm up: calls one after the other, then fifty at a time, then once
more. Each streams until it hears the greeting's first audio (which takes 100 ms of the fixed voice), says
`disconnect` and closes. Memory is what the process keeps once garbage is collected and free memory is given
back. What is allocated once for fifty calls at a time shows in the second row and not in the third. Blocks
are Python's allocated ones: where they stay the same and memory grows, it is the C library that keeps what
was freed, in pieces too scattered to give back.
"""

COLDSTART = f"""From starting the process until it takes connections, and from connecting until the first
audio of the greeting. The fixed providers' voice begins after {VOICE} ms. "Embedded" is `manage.py serve`
on an empty data folder: migrations, static files, and every embedded model loaded and tried before it
listens.
"""

VOICE_TO_VOICE = """One call to `manage.py serve` with the embedded speech-to-text, language model and
voice, on all cores of the machine, from a client that streams freely: {questions} questions, {answers}
answers. The whole is what the caller waits, from the true end of the speech to the first audio message. The
parts are what the server reports of each answer (`metrics`); they overlap, and the rest is detection, the
wait for the first whole sentence, and the way. Medians.
"""

LONGCALL = """One call of {minutes:g} minutes under Daphne, compressed: audio came, and the providers
answered, {speed} times as fast as in life, and the limits on a client were raised for it. The agent's voice
is not compressed, so each of its replies was interrupted by the caller's next sentence.
"""

METHOD = f"""## How it was measured

- **Where.** The server process is pinned to one core, the load generator to another. Every point has a
  fresh server. The curve is the median of several rounds in which the two sides took turns; of losses,
  refusals and calls that got no answer the worst round counts.
- **Load.** Each call streams 10 ms frames in real time over its own WebSocket: a loop of real speech (the
  embedded voice's) with the faint noise of a line between the words: a question and the time to hear the
  reply out, a question and an interruption of its reply, and the time to hear that reply out. The caller
  speaks about a quarter of the time, the agent about half. Calls enter the loop at random places and begin
  150 ms apart; the measurement begins 4 s after the last. On the curve the clients stream freely, as the
  baseline cannot serve RustPBX's own.
- **Providers.** Both sides use the same three, inside the server's process, which answer after fixed times:
  the final words {WORDS} ms after the end of speech was detected, the first token after {TOKEN} ms and then
  one every {NEXT} ms, the first audio {VOICE} ms after a sentence, then audio of real length, five times as
  fast as it is spoken, with word times. Ours come through the catalogue of providers. Nothing else is
  stubbed: voice activity detection, smart turn, turn-taking, transport, the recorder with its SQLite
  database and live events (with one watcher) all run. The baseline has no recorder, no events and no checks
  of what it is sent.
- **The baseline** has Pipecat's defaults: one Silero and one smart turn model a call, messages of 40 ms.
  Its log is at warnings, like ours; at its default level it would do worse. uvicorn runs it on uvloop.
- **CPU** is the server process's own time, all its threads, over the measurement; **memory** the growth of
  its resident memory over the idle server, after two calls to warm up and with free memory given back to the
  system, divided by the calls. When memory freed before is used again, this is small or even negative for
  few calls.
- **Loop lag** is how late a timer of 10 ms in the server's event loop fires. A stall counts as often as the
  timer would have fired in it.
- **Frame delay** is from when a frame's last sample was spoken until the application was given the frame.
  This server, under Daphne, leaves the audio of a client that streams steadily with the kernel until there is
  a window of 32 ms to judge: that is a delay of each frame but the last, and of no answer.
- **Pacing** is the difference, at the client, of the gap between two audio messages and the length of the
  audio in one, within a reply. The first gap of a reply is left out: Pipecat's transport sends the first
  two messages at once, whatever the load.
- **Turn** is the time from the true end of the caller's speech in the audio to the first audio message of
  the reply, less the fixed {FIXED} ms: {STOP} ms of silence that end speech (Pipecat's default), {WORDS} ms
  for the words, {SENTENCE} ms for the first sentence (known to be over with the next one's first word) and
  {VOICE} ms for the voice. So what detection takes beyond the {STOP} ms counts as ours: Silero judges windows
  of 32 ms and goes on to hear a voice for some 50 ms after its end, and Pipecat with it, while this server
  takes a window that is quiet beside the speech for silence.
- **Barge-in** is the time from when detection could have noticed that the caller speaks ({START} ms after
  the true beginning of the speech) to the last audio message of the interrupted reply; the median.
- **Lost** are frames that were due and that the application had not counted when the call was over.
- **Broken** is a server whose pacing p99 is above {PACING} ms or whose loop lag p95 is above {LAG} ms, that
  loses a frame, refuses or drops a call, or does not answer more than one turn in fifty (smart turn,
  at any load, now and then takes a finished sentence for an unfinished one).
- **The generator** measures its own lateness; a point where that was above {LATE} ms (p95) is marked. So
  is one where others used more than {SHARED} % of the server's core (a few percent are the kernel's, for its
  network).
"""

PAGES = """`manage.py fill` stores {turns:,} made-up turns in {calls:,} calls, one of them with {longest:,}
turns. The pages are then asked for one after the other by a process of its own, with Django's test client:
from the request's headers to the last byte of the page, without the network. Times are the median and the
longest of {requests} requests.
"""
