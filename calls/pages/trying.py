"""Trying the agent out in the browser, by voice or by typing."""

from collections.abc import Callable
from functools import cache

from django.contrib.auth.decorators import login_required, permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from calls.audio.format import SAMPLE_RATE
from calls.audio.wav import wav
from calls.models import PromptProfile
from calls.providers.local import voice

SENTENCE = "This is your voice agent. If you can hear me, your speaker is fine."


def _for_those_who_may(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    allowed = permission_required("calls.view_promptprofile", raise_exception=True)
    return require_safe(login_required(allowed(view)))


@_for_those_who_may
def try_out(request: HttpRequest) -> HttpResponse:
    """Show the page on which one talks to an agent; `?profile=` is the slug of the one to begin with."""
    profiles = list(PromptProfile.objects.usable())
    answering = PromptProfile.objects.answering()
    asked = request.GET.get("profile", "")
    chosen = next((each for each in profiles if each.slug == asked), answering)
    missing = asked if chosen is None or chosen.slug != asked else ""
    return render(request, "calls/try.html", {"profiles": profiles, "chosen": chosen, "missing": missing})


@_for_those_who_may
def sentence(_request: HttpRequest) -> HttpResponse:
    """Give out a sentence by which one hears whether the speaker works."""
    return HttpResponse(_spoken(), content_type="audio/wav")


@cache
def _spoken() -> bytes:
    pcm = b"".join(voice.speak(piece, 1.0, SAMPLE_RATE).pcm for piece in voice.pieces(SENTENCE))
    return wav(pcm, SAMPLE_RATE)
