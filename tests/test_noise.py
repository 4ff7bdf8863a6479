"""Noise suppression: the noise goes, the voice stays, whatever pieces it comes in."""

import asyncio

import numpy as np
from pipecat.frames.frames import InputAudioRawFrame

from calls.pipeline.build import build
from calls.pipeline.noise import NoiseSuppression
from calls.profiles.in_force import CallConfig, Provider
from calls.simulator.line import noisy
from tests.e2e.speech import RATE, say

LOCAL = Provider("local")
HISS = np.random.default_rng(1).normal(0, 500, 3 * RATE).astype("<i2").tobytes()


def level(pcm):
    return float(np.sqrt((np.frombuffer(pcm, "<i2").astype(float) ** 2).mean()))


def test_noise_becomes_much_quieter_and_a_voice_hardly():
    assert level(NoiseSuppression()(HISS)[-RATE:]) < level(HISS) / 4
    speech = say("What are your opening hours on Saturday?")
    quiet = bytes(2 * RATE)
    cleaned = NoiseSuppression()(noisy(quiet + speech, 20))[len(quiet) :]
    assert 0.7 < level(cleaned) / level(speech) < 1.1


def test_pieces_of_any_length_are_taken():
    whole, by_pieces = NoiseSuppression(), NoiseSuppression()
    sizes = [1, 319, 320, 321, 7, 4096, 2, 640]
    pieces, at = [], 0
    while at < len(HISS):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(HISS[at : at + size])
        at += size
    assert b"".join(map(by_pieces, pieces)) == whole(HISS)


async def test_what_a_call_hears_is_cleaned_if_its_profile_says_so():
    heard = {}
    for suppress in (True, False):
        config = CallConfig("", "", "", "", "en", LOCAL, LOCAL, LOCAL, noise_suppression=suppress)
        conversation = build(config, system_prompt="", send_audio=None, emit=lambda _: None, started=0.0)
        conversation.hear(HISS)
        pcm, frames = b"", conversation.input._frames
        async with asyncio.timeout(20):
            while len(pcm) < len(HISS) - RATE:
                frame = await frames.get()
                pcm += frame.audio if isinstance(frame, InputAudioRawFrame) else b""
        heard[suppress] = level(pcm[-RATE:])
    assert heard[True] < heard[False] / 4
