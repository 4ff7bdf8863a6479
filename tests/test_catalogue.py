"""The provider catalogue: validation, defaults, what "auto" means, and making services."""

import asyncio
import dataclasses
import importlib
import subprocess
import sys

import pytest

from calls.providers import catalogue
from calls.providers.provider import Setting


@pytest.fixture
def cloud_keys(settings):
    settings.CARTESIA_API_KEY = "cartesia-key"
    settings.OPENAI_API_KEY = "openai-key"


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_auto_is_embedded_without_keys(kind):
    assert catalogue.resolve(kind, "auto") == "local"


def test_auto_is_cloud_only_with_both_keys(settings):
    settings.CARTESIA_API_KEY = "key"
    assert catalogue.resolve("stt", "auto") == "local"
    settings.OPENAI_API_KEY = "key"
    assert [catalogue.resolve(k, "auto") for k in catalogue.KINDS] == ["cartesia", "openai", "cartesia"]
    assert catalogue.resolve("stt", "local") == "local"


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_defaults_validate(kind):
    for provider in catalogue.providers(kind):
        catalogue.validate(kind, provider.name, catalogue.defaults(kind, provider.name))


def test_defaults_follow_the_settings(settings):
    settings.OPENAI_MODEL = "gpt-test"
    assert catalogue.defaults("llm", "openai")["model"] == "gpt-test"


@pytest.mark.parametrize(
    ("kind", "provider", "given", "message"),
    [
        ("llm", "local", {"top_k": 4}, "unknown setting 'top_k'; expected model, temperature"),
        ("llm", "local", {"temperature": "hot"}, "temperature must be a number from 0 to 2, not 'hot'"),
        ("llm", "local", {"temperature": True}, "not True"),
        ("llm", "local", {"temperature": float("nan")}, "not nan"),
        ("llm", "local", {"max_tokens": 2.0}, "a whole number from 1 to 512, not 2.0"),
        ("llm", "local", {"max_tokens": 513}, "not 513"),
        ("llm", "openai", {"model": "two words"}, "text like gpt-4o-mini, not 'two words'"),
        ("llm", "openai", {"model": "gpt-\ud83d"}, "text like gpt-4o-mini"),
        ("llm", "local", {"max_tokens": 10**4000}, "from 1 to 512, not 1000000000"),
        ("llm", "local", {"temperature": 10**4000}, "from 0 to 2, not 1000000000"),
        ("tts", "local", {"voice": "emma"}, "one of heart, not 'emma'"),
        ("tts", "cartesia", {"speed": 1.6}, "from 0.6 to 1.5"),
        ("stt", "cartesia", {"model": "nova"}, "text like ink-whisper"),
        ("stt", "cartesia", {"language": "english"}, "language must be"),
        ("stt", "whisper", {}, "unknown stt provider 'whisper': expected one of auto, local, cartesia"),
        ("vad", "local", {}, "unknown kind 'vad'"),
        ("llm", "auto", {"voice": "heart"}, "unknown setting 'voice'"),
        ("tts", "auto", {"speed": 3}, "from 0.5 to 2 or a number from 0.6 to 1.5"),
    ],
)
def test_validate_says_what_was_expected(kind, provider, given, message):
    with pytest.raises(ValueError, match=r"expected|must be|unknown") as error:
        catalogue.validate(kind, provider, given)
    assert message in str(error.value)
    assert len(str(error.value)) < 200


def test_auto_takes_settings_of_either_provider():
    catalogue.validate("tts", "auto", {"voice": "heart", "speed": 2})
    catalogue.validate("llm", "auto", {"model": "gpt-4o", "max_tokens": 4096})


def test_accepted_keeps_what_fits():
    """RustPBX's hard-coded configurations name another vendor's models."""
    llm = {"model": "gpt-4o-mini", "max_tokens": 150, "temperature": 0.7}
    assert catalogue.accepted("llm", "openai", llm) == llm
    assert catalogue.accepted("llm", "local", llm) == {"max_tokens": 150, "temperature": 0.7}
    stt = {"sample_rate": 16000, "language": "en", "model": "nova"}
    assert catalogue.accepted("stt", "cartesia", stt) == {"language": "en"}
    tts = {"model": "aura-asteria-en", "sample_rate": 16000, "encoding": "linear16"}
    assert catalogue.accepted("tts", "auto", tts) == {}


def test_a_missing_key_is_named():
    with pytest.raises(catalogue.ProviderUnavailable, match="OPENAI_API_KEY"):
        catalogue.create("llm", "openai", {}, language="en")


def test_an_unknown_language_is_refused():
    with pytest.raises(catalogue.ProviderUnavailable, match="does not know the language 'de-DE'"):
        catalogue.create("stt", "local", {}, language="de-DE")


def test_create_refuses_bad_settings():
    with pytest.raises(ValueError, match="max_tokens"):
        catalogue.create("llm", "local", {"max_tokens": 0}, language="en")


async def test_cloud_services_get_keys_urls_and_settings(settings, cloud_keys):
    settings.OPENAI_BASE_URL = "http://127.0.0.1:9/v1"
    settings.CARTESIA_STT_URL = "ws://127.0.0.1:9"
    stt = catalogue.create("stt", "auto", {"model": "ink-2"}, language="de")
    assert (stt.settings.model, stt.settings.language) == ("ink-2", "de")
    assert (stt._scheme, stt._base_url, stt._api_key) == ("ws", "127.0.0.1:9", "cartesia-key")
    llm = catalogue.create("llm", "auto", {"temperature": 0.5}, language="de")
    assert (llm.settings.model, llm.settings.temperature) == ("gpt-4o-mini", 0.5)
    assert llm.settings.max_completion_tokens == 150
    assert str(llm._client.base_url) == "http://127.0.0.1:9/v1/"
    assert llm._client.api_key == "openai-key"
    assert llm._client.timeout.read <= 10
    tts = catalogue.create("tts", "auto", {"speed": 1.2}, language="de")
    assert tts.settings.voice == settings.CARTESIA_VOICE
    assert tts.settings.generation_config.speed == 1.2


async def test_auto_drops_settings_of_the_provider_it_is_not(cloud_keys):
    tts = catalogue.create("tts", "auto", {"voice": "heart", "speed": 1.2}, language="en")
    assert tts.settings.voice != "heart"


def test_cloud_is_ready_with_its_keys(cloud_keys):
    assert catalogue.ready() == {"stt": True, "llm": True, "tts": True}


async def test_the_embedded_models_warm_up_and_close():
    await catalogue.close()
    assert catalogue.ready() == {"stt": False, "llm": False, "tts": False}
    await catalogue.warm()
    assert catalogue.ready() == {"stt": True, "llm": True, "tts": True}
    await asyncio.wait_for(catalogue.close(), catalogue.CLOSE_SECONDS + 1)
    assert catalogue.ready() == {"stt": False, "llm": False, "tts": False}
    await catalogue.close()


def test_a_registered_provider_is_had_by_name_only(monkeypatch, cloud_keys):
    monkeypatch.setattr(catalogue, "PROVIDERS", list(catalogue.PROVIDERS))
    extra = catalogue.Provider("stt", "echo", "Echo", "builtins", "str", ())
    catalogue.register(extra)
    assert catalogue.find("stt", "echo") is extra
    assert catalogue.resolve("stt", "auto") == "cartesia"
    with pytest.raises(ValueError, match="there is a stt provider 'echo' already"):
        catalogue.register(extra)
    with pytest.raises(ValueError, match="there is a stt provider 'auto' already"):
        catalogue.register(dataclasses.replace(extra, name="auto"))
    with pytest.raises(ValueError, match="unknown kind 'vad'"):
        catalogue.register(dataclasses.replace(extra, kind="vad"))


def test_a_registered_provider_needs_no_settings_of_the_server(monkeypatch):
    """Its key, its default and its code may be missing: it is unavailable then, and another stands in."""
    monkeypatch.setattr(catalogue, "PROVIDERS", list(catalogue.PROVIDERS))
    setting = Setting("voice", str, "The voice.", default_from="ACME_VOICE")
    for name, key, module, factory in (
        ("keyless", "ACME_KEY", "builtins", "dict"),
        ("no-module", "", "acme.voices", "dict"),
        ("no-factory", "", "builtins", "voice"),
    ):
        catalogue.register(catalogue.Provider("tts", name, "Acme", module, factory, (setting,), key=key))
        assert catalogue.defaults("tts", name) == {}
        with pytest.raises(catalogue.ProviderUnavailable, match="Acme"):
            catalogue.create("tts", name, {}, language="en")


async def test_the_system_prompt_reaches_the_language_models(cloud_keys):
    for provider in ("local", "openai"):
        llm = catalogue.create("llm", provider, {}, language="en", system_prompt="Be kind.")
        assert llm.settings.system_instruction == "Be kind."


@pytest.mark.parametrize(
    ("prompt", "fitting"),
    [
        ("Be kind. " * 500, ("Be kind. " * 333).strip()),
        ("kind " * 1000, ("kind " * 600).strip()),
        ("k" * 5000, "k" * 3000),
        ("k" * 3000, "k" * 3000),
        (f"{'k' * 2999}. And so on.", f"{'k' * 2999}."),
    ],
)
def test_a_prompt_is_cut_to_what_the_embedded_model_takes(prompt, fitting):
    assert catalogue.find("llm", "local").fit_prompt(prompt) == fitting
    assert len(fitting) <= 3000


async def test_a_cut_prompt_is_named(cloud_keys):
    prompt = "Be kind. " * 500
    fitting, cut = catalogue.fit_prompt("local", prompt)
    assert (
        cut
        == "the prompt has 4,500 characters; Embedded (SmolLM2 135M) takes 3,000, and the rest is left out"
    )
    llm = catalogue.create("llm", "local", {}, language="en", system_prompt=prompt)
    assert llm.settings.system_instruction == fitting
    assert catalogue.fit_prompt("auto", prompt) == catalogue.fit_prompt("openai", prompt) == (prompt, "")


async def test_shared_connections_are_closed_with_the_catalogue(cloud_keys):
    """Not with a call: other calls use them."""
    llm = catalogue.create("llm", "openai", {}, language="en")
    await llm.cleanup()
    assert not llm._client.is_closed()
    await catalogue.close()
    assert llm._client.is_closed()


async def test_everything_is_warmed_with_keys_as_well(cloud_keys):
    """The embedded models stand in, and speak in an emergency."""
    await catalogue.warm()
    for kind in catalogue.KINDS:
        assert importlib.import_module(catalogue.find(kind, "local").module).is_ready()
    await catalogue.close()


async def test_an_embedded_model_that_only_stands_in_does_not_keep_the_server_from_starting(
    settings, cloud_keys, caplog
):
    settings.LOCAL_LLM_PATH = "/nowhere/model.gguf"
    await catalogue.close()
    await catalogue.warm()
    assert "calls.providers.local.llm cannot be used" in caplog.text
    settings.OPENAI_API_KEY = ""
    with pytest.raises(Exception, match=r"."):
        await catalogue.warm()
    await catalogue.close()


def test_the_catalogue_loads_nothing_heavy():
    """Admin pages and commands read it."""
    code = (
        "import os, sys; os.environ['DJANGO_SETTINGS_MODULE'] = 'tests.settings';"
        "from calls.providers import catalogue; catalogue.ready(); catalogue.defaults('llm', 'auto');"
        "heavy = {'pipecat', 'numpy', 'xllamacpp', 'hibari', 'openai'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
