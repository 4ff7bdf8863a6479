"""A process that recognises speech: `python -m calls.providers.local.stt_worker SOCKET_FD DECODERS`.

PocketSphinx holds Python's global lock while it decodes, so it has a process of its own. One thread takes
turns between reading the socket and decoding a slice of the next utterance, so that nobody waits long.
The process ends when the socket is closed, which it is when the server dies in whatever way.
"""

import signal
import socket
import sys
import time
from collections import deque

from pocketsphinx import Decoder

from calls.providers.local.stt_wire import BYTES_PER_SECOND, SAMPLE_RATE, Kind, Unpacker, pack

SLICE_BYTES = BYTES_PER_SECOND // 10
PARTIAL_SECONDS = 0.25
# Undecoded audio kept for an utterance; more means that decoding can't keep up at all.
MAX_BACKLOG_BYTES = 60 * BYTES_PER_SECOND
# A decoder's memory and its last step grow with the speech: a monologue is decoded in pieces.
SEGMENT_BYTES = 20 * BYTES_PER_SECOND
# Measured on 20 short telephone sentences: 0.07 × real time and the last step within 15 ms at a word error
# rate of 0.11; PocketSphinx's own defaults: 0.12 × and up to 150 ms at 0.15.
DECODER_OPTIONS = {"fwdflat": False, "maxhmmpf": 3000, "maxwpf": 5, "ds": 2}


class Recogniser:
    """A decoder that can be used for one utterance after another, each from the same initial state."""

    def __init__(self) -> None:
        self._decoder = Decoder(samprate=SAMPLE_RATE, loglevel="FATAL", **DECODER_OPTIONS)
        self._mean = self._decoder.get_cmn(False)

    def start(self) -> None:
        """Begin an utterance. The estimate of the channel that the last caller left is forgotten."""
        self._decoder.set_cmn(self._mean)
        self._decoder.start_utt()

    def decode(self, audio: bytes) -> None:
        """Take 16 kHz s16le audio in."""
        self._decoder.process_raw(audio)

    def end(self) -> str:
        """End the utterance and return its words."""
        self._decoder.end_utt()
        return self.words()

    def words(self) -> str:
        """The words recognised so far, possibly none."""
        hypothesis = self._decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


class Utterance:
    """One stretch of speech: its audio not yet decoded, and its words so far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.backlog = bytearray()
        self.ended = False
        self.recogniser: Recogniser | None = None
        self._before = ""
        self._segment_bytes = 0
        self._partial = ""
        self._partial_at = 0.0

    def step(self) -> bytes:
        """Decode one slice; return a message for the server, or b"" when there is nothing new."""
        recogniser = self.recogniser
        if recogniser is None:
            raise RuntimeError("an utterance can't be decoded before it has a decoder")
        audio = bytes(self.backlog[:SLICE_BYTES])
        del self.backlog[:SLICE_BYTES]
        if audio:
            recogniser.decode(audio)
            self._segment_bytes += len(audio)
        if self.ended and not self.backlog:
            return pack(Kind.FINAL, self.number, self._text(recogniser.end()).encode())
        if self._segment_bytes >= SEGMENT_BYTES:
            self._before = self._text(recogniser.end())
            self._segment_bytes = 0
            recogniser.start()
        return self._new_partial(recogniser)

    def _text(self, words: str) -> str:
        return f"{self._before} {words}".strip()

    def _new_partial(self, recogniser: Recogniser) -> bytes:
        now = time.monotonic()
        text = self._text(recogniser.words())
        if not text or text == self._partial or now - self._partial_at < PARTIAL_SECONDS:
            return b""
        self._partial, self._partial_at = text, now
        return pack(Kind.PARTIAL, self.number, text.encode())


class Worker:
    """The loop of the process: reads messages, shares the decoders out, decodes in turns."""

    def __init__(self, connection: socket.socket, max_decoders: int) -> None:
        self._socket = connection
        self._unpacker = Unpacker()
        self._idle: list[Recogniser] = [Recogniser()]
        self._may_load = max_decoders - 1
        self._busiest = 1  # the most utterances there have been at once
        self._utterances: dict[int, Utterance] = {}
        self._turns: deque[Utterance] = deque()

    def run(self) -> None:
        """Serve until the server closes the socket."""
        self._socket.sendall(pack(Kind.READY))
        while self._read(wait=not (self._has_work() or self._wants_spare())):
            utterance = self._next()
            if utterance:
                self._decode(utterance)
            elif self._wants_spare():
                self._may_load -= 1
                self._idle.append(Recogniser())

    def _wants_spare(self) -> bool:
        """Whether a decoder is to be loaded ahead, which takes half a second: nobody speaks, and if one more
        caller does than ever before, there will be one for each.
        """
        return not self._utterances and self._may_load > 0 and len(self._idle) <= self._busiest

    def _read(self, *, wait: bool) -> bool:
        """Take what has arrived, or the first thing to arrive; False once the socket is closed."""
        try:
            data = self._socket.recv(1 << 16, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        for kind, number, payload in self._unpacker.feed(data):
            self._handle(kind, number, payload)
        return bool(data)

    def _handle(self, kind: Kind, number: int, payload: bytes) -> None:
        if kind is Kind.START:
            utterance = self._utterances[number] = Utterance(number)
            self._turns.append(utterance)
            self._busiest = max(self._busiest, len(self._utterances))
        elif found := self._utterances.get(number):
            if kind is Kind.AUDIO:
                found.backlog += payload
                if len(found.backlog) > MAX_BACKLOG_BYTES:
                    self._forget(found)
                    message = "the embedded speech-to-text can't keep up with the speech"
                    self._socket.sendall(pack(Kind.ERROR, number, message.encode()))
            elif kind is Kind.END:
                found.ended = True
            elif kind is Kind.CANCEL:
                self._forget(found)

    def _has_work(self) -> bool:
        free = bool(self._idle) or self._may_load > 0
        return any((u.recogniser or free) and (u.ended or u.backlog) for u in self._turns)

    def _next(self) -> Utterance | None:
        """The next utterance that can be decoded, which then goes to the end of the queue."""
        for utterance in self._turns:
            if (utterance.ended or utterance.backlog) and self._equip(utterance):
                self._turns.remove(utterance)
                self._turns.append(utterance)
                return utterance
        return None

    def _equip(self, utterance: Utterance) -> bool:
        """Give the utterance a decoder if there is one for it."""
        if utterance.recogniser is None:
            if self._idle:
                utterance.recogniser = self._idle.pop()
            elif self._may_load > 0:
                self._may_load -= 1
                utterance.recogniser = Recogniser()
            else:
                return False
            utterance.recogniser.start()
        return True

    def _decode(self, utterance: Utterance) -> None:
        try:
            message = utterance.step()
        except RuntimeError as error:
            # The decoder's state is unknown now: another one takes its place when needed.
            utterance.recogniser = None
            self._may_load += 1
            self._forget(utterance)
            message = pack(Kind.ERROR, utterance.number, str(error).encode())
        else:
            if utterance.ended and not utterance.backlog:
                self._forget(utterance, finished=True)
        if message:
            self._socket.sendall(message)

    def _forget(self, utterance: Utterance, *, finished: bool = False) -> None:
        """Drop the utterance; its decoder is free again."""
        del self._utterances[utterance.number]
        self._turns.remove(utterance)
        if utterance.recogniser:
            if not finished:
                utterance.recogniser.end()
            self._idle.append(utterance.recogniser)


def main(fd: int, max_decoders: int) -> None:
    """Run a worker on the inherited socket `fd` with at most `max_decoders` decoders."""
    # Ctrl-C goes to the whole group of the terminal; the server decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with socket.socket(fileno=fd) as connection:
            Worker(connection, max_decoders).run()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the server went away while it was being answered


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
