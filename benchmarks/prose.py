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

CLIENTS = """RustPBX's own clients guard their socket with a lock that their reader holds, so that they can
send frames only when a message comes. So the server answers each frame with a `ping` (see
[the protocol](protocol.md)), which doubles the messages of a call. One run each under Daphne; `seed` is the
older client, `new` the newer. The frame delay here includes the wait for the client's own lock. There is no
baseline: the older client sends no frame before it gets a message, and Pipecat sends none before it hears.

`bridge` is the bridge of today's RustPBX: 8 kHz both ways, which the server resamples, 20 ms a message, no
JSON. It is sent voice 80 ms ahead of its time and plays what it has got. So its barge-in counts until the
last of that is heard, 80 ms later than with a client that is sent nothing ahead. (Where the table has no row
of it: `python -m benchmarks clients`.)
"""

IVR = """How long RustPBX waits, with its caller in silence, for what is to be done with a call (see
[RustPBX](rustpbx.md)), while {calls} calls talk and SQLite stores them. The first question is answered from
memory and stored while the audio connects. A later one is answered by what is stored; the one asked here,
after audio that did not come, stores the call's end as well.
"""

CHURN = """After a hundred calls to warm up, calls are made one after the other, then fifty at a time, then
fifty at a time again. Each streams until the greeting's first audio comes (after 100 ms with the fixed
voice), sends `disconnect` and closes. Memory is measured after garbage is collected and free memory is
returned to the system. What is allocated once for fifty calls at a time shows in the second row and not in
the third. Blocks are those that Python has allocated: where their number stays the same and memory grows, the
C library keeps freed memory that is too fragmented to return.
"""

COLDSTART = f"""The time from starting the process until it takes connections, and from connecting until the
first audio of the greeting. The fixed providers' voice begins after {VOICE} ms. "Embedded" is
`manage.py serve` on an empty data folder: it migrates the database, collects static files, and loads and runs
every embedded model before it takes connections.
"""

VOICE_TO_VOICE = """One call to `manage.py serve` with the embedded speech-to-text, language model and
voice, on all cores of the machine, from a client that streams freely: {questions} questions, {answers}
answers. "Voice to voice" is how long the caller waits: from the true end of the speech to the first audio
message. The parts are what the server reports for each answer (`metrics`). They overlap; not among them are
the detection of the end, the wait for the first whole sentence, and the network. Medians.
"""

LONGCALL = """One call of {minutes:g} minutes under Daphne, sped up: audio came, and the providers
answered, {speed} times as fast as in real time, and the limits on a client were raised for it. The
agent's voice was sent in real time, so each of its replies was interrupted by the caller's next sentence.
"""

METHOD = f"""## How it was measured

- **Where.** The server process is pinned to one core, the load generator to another. Every point has a
  fresh server. The curve is the median of several rounds in which the two sides took turns; of losses,
  refusals and calls that got no answer the worst round counts.
- **Load.** Each call streams 10 ms frames in real time over its own WebSocket: a loop of speech by the
  embedded voice, with the faint noise of a line between the words. The loop is a question and the time of its
  whole reply, then a question, an interruption of its reply, and the time of the whole reply to that. The
  caller speaks about a quarter of the time, the agent about half. Calls start at random places of the loop,
  150 ms apart; the measurement begins 4 s after the last has started. On the curve the clients stream freely,
  as the baseline cannot serve RustPBX's own.
- **Providers.** Both sides use the same three, inside the server's process, which answer after fixed times:
  the final words {WORDS} ms after the end of speech was detected, the first token after {TOKEN} ms and then
  one every {NEXT} ms, the first audio {VOICE} ms after a sentence, then audio of real length, five times as
  fast as it is spoken, with word times. Ours come through the catalogue of providers. Nothing else is
  stubbed: voice activity detection, smart turn, turn-taking, transport, the recorder with its SQLite
  database and live events (with one watcher) all run. The baseline has no recorder, no events and no
  validation of messages.
- **The baseline** has Pipecat's defaults: one Silero and one smart turn model a call, messages of 40 ms.
  It logs warnings only, like ours; with its default log level it is slower. uvicorn runs it on uvloop.
- **CPU** is the CPU time of all threads of the server process during the measurement. **Memory** is the
  growth of its resident memory over that of the idle server (after two calls to warm up, with free memory
  returned to the system), divided by the calls. With few calls this is small or even negative, as they use
  memory that was freed before.
- **Loop lag** is how late a timer of 10 ms in the server's event loop fires. A stall counts as often as the
  timer would have fired in it.
- **Frame delay** is the time from a frame's last sample until the application gets the frame. Under Daphne
  this server does not read the audio of a client that streams steadily before there is a window of 32 ms to
  judge. That delays each frame of a window but the last, and no answer.
- **Pacing** is the difference, at the client, of the gap between two audio messages and the length of the
  audio in one, within a reply. The first gap of a reply is left out: Pipecat's transport sends the first
  two messages at once, whatever the load.
- **Turn** is the time from the true end of the caller's speech in the audio to the first audio message of
  the reply, less the fixed {FIXED} ms: {STOP} ms of silence that end speech (Pipecat's default), {WORDS} ms
  for the words, {SENTENCE} ms for the first sentence (known to be over with the next one's first word) and
  {VOICE} ms for the voice. So what detection takes beyond the {STOP} ms counts as ours: Silero judges windows
  of 32 ms and takes some 50 ms after the end of a voice for speech, and so does Pipecat, while this server
  takes a window that is much quieter than the speech for silence.
- **Barge-in** is the time from when detection could have noticed that the caller speaks ({START} ms after
  the true beginning of the speech) to the last audio message of the interrupted reply. Its median is shown.
- **Lost** are frames that were due and had not reached the application at the end of the call.
- **Broken** is a server whose pacing p99 is above {PACING} ms or whose loop lag p95 is above {LAG} ms, that
  loses a frame, refuses or drops a call, or does not answer more than one turn in fifty (at any load, smart
  turn sometimes takes a finished sentence for an unfinished one).
- **The generator** measures its own lateness; a point where that was above {LATE} ms (p95) is marked. So
  is one where others used more than {SHARED} % of the server's core (a few percent are the kernel's, for its
  network).
"""

PAGES = """`manage.py fill` stores {turns:,} made-up turns in {calls:,} calls, one of them with {longest:,}
turns. A process of its own then requests the pages one after the other with Django's test client. The times
are from the request's headers to the last byte of the page, without the network: the median and the
longest of {requests} requests.
"""
