"""How a client speaks and is spoken to: what a connection has to know of its kind of client."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from calls import events
from calls.audio.format import SAMPLE_RATE, VoiceOut
from calls.rustpbx import bridge, browser, codec, outgoing
from calls.rustpbx.messages import Audio, ClientMessage, ProtocolError, Timed, Url
from calls.rustpbx.url import BRIDGE_RATES


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of client.

    Attributes:
        generation: its name, "" if only its audio will tell.
        rate: of the caller's voice, in Hz.
        voice: how the agent's voice is sent.
        begins_at_once: the call is there when the socket is; else `configure` or audio begins it.
        needs_pings: it may hold its socket until a message comes.
        audio_is_life: it tells no hang-up but by sending no more audio. Else it ends its connection, and
            silence is a phone that is muted.
        encode: makes a text message, None if the client takes none.
        encode_voice: makes the message of 20 ms of voice, from it and a number unique in the call; None if
            the client does not hear.
        decode_text, decode_binary: read a message; they raise ProtocolError.
        message_of: the message for what happened, None if the client is not told.
        is_typed: its caller types and reads: nothing is heard or spoken.
    """

    generation: str
    rate: int
    voice: VoiceOut
    begins_at_once: bool
    needs_pings: bool
    audio_is_life: bool
    encode: Callable[[Timed], str | None]
    encode_voice: Callable[[bytes, int], str | bytes | None]
    decode_text: Callable[[str], ClientMessage]
    decode_binary: Callable[[bytes], Audio]
    message_of: Callable[[events.Event], Timed | None] = outgoing.message_of
    is_typed: bool = False


def dialect_of(url: Url) -> Dialect:
    """The dialect of a client that connected to a URL with these parameters."""
    return _bridge(url.rate) if url.bridge else _fork(url)


def browser_dialect(*, typed: bool) -> Dialect:
    """The dialect of a browser in which somebody tries the agent out, by voice or `typed`."""
    return Dialect(
        generation="browser",
        rate=SAMPLE_RATE,
        voice=VoiceOut(SAMPLE_RATE, 0.0 if typed else browser.LEAD_S),
        begins_at_once=True,
        needs_pings=False,
        audio_is_life=False,
        encode=codec.encode,
        encode_voice=_not_heard if typed else _as_it_is,
        decode_text=browser.decode_text,
        decode_binary=bridge.decode_binary,
        message_of=browser.message_of,
        is_typed=typed,
    )


def presumed_bridge(bytes_per_second: float) -> Dialect:
    """The dialect of a client that sends binary audio and no `configure`, at this pace.

    It is taken for a bridge whose URL does not say so. It is sent JSON as well, which a bridge ignores, and
    may still turn out to send some.
    """
    rate = min(BRIDGE_RATES, key=lambda rate: abs(math.log(max(bytes_per_second, 1.0) / (2 * rate))))
    return replace(_bridge(rate), encode=codec.encode, decode_text=_key_or_command)


def _key_or_command(text: str) -> ClientMessage:
    try:
        return bridge.decode_text(text)
    except ProtocolError:
        return codec.decode_text(text)


def _fork(url: Url) -> Dialect:
    return Dialect(
        generation="",
        rate=SAMPLE_RATE,
        voice=VoiceOut(url.rate),
        begins_at_once=False,
        needs_pings=True,
        audio_is_life=True,
        encode=codec.encode,
        encode_voice=_as_it_is if url.binary else partial(_as_json, url.rate),
        decode_text=codec.decode_text,
        decode_binary=codec.decode_binary,
    )


def _bridge(rate: int) -> Dialect:
    return Dialect(
        generation="bridge",
        rate=rate,
        voice=VoiceOut(rate, bridge.LEAD_S),
        begins_at_once=True,
        needs_pings=False,
        audio_is_life=False,
        encode=_not_at_all,
        encode_voice=_as_it_is,
        decode_text=bridge.decode_text,
        decode_binary=bridge.decode_binary,
    )


def _as_it_is(pcm: bytes, _number: int) -> bytes:
    return pcm


def _as_json(rate: int, pcm: bytes, number: int) -> str:
    return codec.encode_audio(pcm, str(number), rate)


def _not_at_all(_message: Timed) -> None:
    return None


def _not_heard(_pcm: bytes, _number: int) -> None:
    return None
