"""Profiles as YAML: exact both ways, and what is wrong is said where it is."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls.models import EndOfTurn, PromptPolicy, PromptProfile, ProviderAccount
from calls.models.storable import is_storable
from calls.profiles import exchange, fields, notation
from calls.profiles.notation import BadYaml
from tests.conftest import publish_profile

pytestmark = pytest.mark.django_db

# What makes YAML what it is not, and what browsers and databases make of text.
_TRICKY = st.sampled_from(
    ["\r\n", "\n", "\n\n", " ", "\t", "\x85", "\u2028", "\ufeff", ": ", " #", "- ", "|", ">", "'", '"', "\\",
     "{", "[", "&a", "*a", "!", "%", "@", "`", "---", "...", "~", "null", "true", "no", "1", "1e5", "0x1f", "=",
     "<<", "2026-01-01", "12:30", "é", "日本", "🙂", "\U0010ffff", "\x7f", "\u200f", "? ", ","]
)  # fmt: skip
_texts = st.lists(_TRICKY | st.text(max_size=5), max_size=8).map("".join)
_storable = _texts.filter(is_storable)
_numbers = st.integers(-(10**25), 10**25) | st.floats(allow_nan=False, allow_infinity=False)
_json = st.recursive(
    st.none() | st.booleans() | _numbers | _storable,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_storable, inner, max_size=3),
    max_leaves=10,
)
_settings = st.dictionaries(_storable, _json, max_size=4)
_prompts = _storable.filter(lambda text: text.strip() != "")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.fixed_dictionaries(
        {
            "name": _prompts.map(lambda text: text[:80]).filter(bool),
            "slug": st.from_regex(r"\A[-a-zA-Z0-9_]{1,80}\Z"),
            "system_prompt": _prompts,
            "greeting": _storable,
            "farewell": _storable,
            "apology": _prompts,
            "language": st.sampled_from(["en", "no", "pt-BR"]),
            "stt_provider": st.sampled_from(["auto", "local", "gone", "1"]),
            "stt_settings": _settings,
            "llm_settings": _settings,
            "tts_settings": _settings,
            "prompt_policy": st.sampled_from(PromptPolicy.values),
            "end_of_turn": st.sampled_from(EndOfTurn.values),
            "end_of_turn_silence_s": st.floats(0.2, 5),
            "max_duration_s": st.integers(10, 86_400),
            "allow_interruptions": st.booleans(),
            "use_client_settings": st.booleans(),
        }
    )
)
def test_a_profile_comes_back_as_it_was(values):
    profile = PromptProfile(**values)
    (read,) = exchange.read(exchange.write(profile, profile.configuration()))
    assert (read.name, read.slug) == (profile.name, profile.slug)
    assert read.configuration == profile.configuration()
    assert repr(read.configuration["tts_settings"]) == repr(values["tts_settings"]), "1 is not 1.0 or True"
