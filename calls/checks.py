"""Checks of the settings that Django runs before a command starts: each mistake is one sentence."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

GGUF = b"GGUF"  # the first bytes of every such file


@register()
def own_language_model(**_kwargs: Any) -> list[CheckMessage]:
    """LOCAL_LLM_PATH, if set, names a GGUF file that can be read."""
    own = settings.LOCAL_LLM_PATH
    if not own:
        return []
    try:
        with Path(own).open("rb") as file:
            found = file.read(len(GGUF))
    except OSError as error:
        return [Error(f"LOCAL_LLM_PATH={own}: {error.strerror}; a GGUF file was expected", id="calls.E001")]
    if found != GGUF:
        return [Error(f"LOCAL_LLM_PATH={own} is no GGUF file", id="calls.E001")]
    return []


@register()
def audio_stopped(**_kwargs: Any) -> list[CheckMessage]:
    """AUDIO_STOPPED_SECONDS leaves a call time to begin."""
    seconds = settings.AUDIO_STOPPED_SECONDS
    if seconds >= 1:
        return []
    return [Error(f"AUDIO_STOPPED_SECONDS={seconds}: 1 or more was expected", id="calls.E002")]
