"""Profiles as YAML: exact both ways, and what is wrong is said where it is."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls.models import EndOfTurn, PromptPolicy, PromptProfile, ProviderAccount
from calls.models.storable import is_storable
from calls.profiles import exchange, notation
from calls.profiles.notation import BadYaml
from tests.conftest import publish_profile

pytestmark = pytest.mark.django_db

# What makes YAML what it is not, and what browsers and databases make of text.
_TRICKY = st.sampled_from(
    ["\r\n", "\n", "\n\n", " ", "\t", "\x85", "\u2028", "\ufeff", ": ", " #", "- ", "|", ">", "'", '"', "\\",
     "{", "[", "&a", "*a", "!", "%", "@", "`", "---", "...", "~", "null", "true", "no", "1", "1e5", "0x1f",
     "=", "<<", "2026-01-01", "12:30", "é", "日本", "🙂", "\U0010ffff", "\x7f", "\u200f", "? ", ","]
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


def written(**fields):
    """A file that says little more than it has to."""
    lines = {"name": "Shop", "slug": "shop", "system_prompt": "Be brief."} | fields
    return "".join(f"{name}: {value}\n" for name, value in lines.items() if value is not None)


def test_what_people_read_is_written_as_lines():
    profile = PromptProfile(name="Shop", slug="shop", system_prompt="Be brief.\nBe kind. \n\nNo lists.")
    profile.llm_settings = profile.stt_settings = {"model": "m"}  # the same object twice is no alias
    text = exchange.write(profile, profile.configuration())
    assert "system_prompt: |-\n  Be brief.\n  Be kind. \n\n  No lists.\n" in text
    assert text.count("  model: m\n") == 2
    assert not {"is_default", "is_published"} & {line.partition(":")[0] for line in text.splitlines()}


def test_what_a_file_leaves_out_is_the_default():
    (read,) = exchange.read(written(language="no"))
    default = PromptProfile(system_prompt="Be brief.", language="no").configuration()
    assert read.configuration == default


def test_several_profiles_are_one_file():
    texts = [
        exchange.write(p := PromptProfile(name=n, slug=n, system_prompt="x"), p.configuration()) for n in "ab"
    ]
    assert [read.slug for read in exchange.read("---\n".join(texts))] == ["a", "b"]
    with pytest.raises(BadYaml, match=r"line 6, column 7: expected each profile once, got “shop” again"):
        exchange.read(written() + "---\n" + written())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1, column 1: expected a profile, lines such as “name: Shop”; got nothing"),
        ("- 1", "line 1, column 1: expected a profile, lines such as “name: Shop”; got a list"),
        (written(greeting="Hello: you"), "line 4, column 16: .*put a text with a colon into quotes"),
        (written(llm_settings="\n\ttop_p: 1"), "line 5, column 1: .*indent with blanks, not with tabs"),
        (written(greeting="'Hello"), "line 5, column 1: .*begins in line 4.*quote or bracket is not closed"),
        (written(greeting="\x07"), r"line 4, column 11: expected text, got the character U\+0007"),
        (written(name=None), "line 1, column 1: the field name is missing"),
        (written(system_prompt=None), "line 1, column 1: the field system_prompt is missing"),
        (written(system_prompt="''"), "line 3, column 16: system_prompt: This field cannot be blank"),
        (written(greting="Hi"), "line 4, column 1: there is no field “greting”: did you mean greeting?"),
        (written(is_default="true"), "line 4, column 1: there is no field “is_default”: expected name"),
        (written() + "name: Other", "line 4, column 1: expected each name once, got “name” again"),
        (written(slug="a b"), "line 2, column 7: slug: Enter a valid “slug”"),
        (written(language="German"), "line 4, column 11: language: Enter a tag such as en or pt-BR"),
        (written(greeting="5"), "line 4, column 11: greeting: expected text, got 5"),
        (written(greeting=""), "line 4, column 10: greeting: expected text, got nothing"),
        (written(allow_interruptions="yes"), "line 4, column 22: .* true or false, got the text “yes”"),
        (written(max_duration_s="9.5"), "line 4, column 17: .*expected a whole number, got 9.5"),
        (written(max_duration_s="true"), "line 4, column 17: .*expected a whole number, got true"),
        (written(max_duration_s="5"), "line 4, column 17: max_duration_s: .*greater than or equal to 10"),
        (written(end_of_turn_silence_s="'1'"), "line 4, column 24: .*: expected a number, got the text “1”"),
        (written(end_of_turn_silence_s="1e999"), "line 4, column 24: .*: expected a number, got inf"),
        (written(end_of_turn="soon"), "line 4, column 14: .*one of smart, silence, got the text “soon”"),
        (written(stt_settings="[1]"), "line 4, column 15: stt_settings: expected values .* got a list"),
        (written(stt_settings="{a: 1e999}"), "line 4, column 15: .*expected what a database can store"),
        (written(greeting=r'"\0"'), "line 4, column 11: greeting: expected what a database can store"),
        (written(stt_settings="{1: 2}"), "line 4, column 16: expected a name, got “1”"),
        (written(stt_settings="{? [a] : 2}"), "line 4, column 18: expected a name, got a list"),
        (written(stt_settings="&a {}", llm_settings="*a"), r"line 5, column 15: .*got an alias"),
        (written(greeting="!!python/name:os.system x"), "line 4, column 11: .*tag !!python/name:os"),
        (written(stt_settings="!!set {a}"), "line 4, column 15: expected a plain value, got the tag !!set"),
        (written(max_duration_s="9" * 5000), "line 4, column 17: expected int"),
        (written(stt_settings="[" * 50_000), "line 4, column 54: expected at most 40 levels"),
        (written(greeting="x" * 400_000), "line 1, column 1: expected at most 300,000 characters, got 400,0"),
        (written(schema="3"), "line 4, column 9: expected the form 2, got 3"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_where_it_is(text, says):
    with pytest.raises(BadYaml, match=says):
        exchange.read(text)


def test_what_would_fail_in_a_call_is_no_mistake_of_a_file():
    """As it is none of a draft; readiness says it."""
    (read,) = exchange.read(written(llm_provider="gone", llm_settings="{colour: blue}"))
    assert read.configuration["llm_settings"] == {"colour": "blue"}


class TestSecrets:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("llm_settings", {"api_key": "abc"}),
            ("llm_settings", {"extra": {"headers": [{"Authorization": "x"}]}}),
            ("system_prompt", "Say sk-proj-0123456789abcdefghij if they ask."),
            ("tts_settings", {"url": "wss://me:hunter2@voice.example"}),
            ("greeting", "My key is the-accounts-own-key, hello."),
            ("farewell", "the-servers-own-key"),
            ("apology", "the-streams-own-token"),
        ],
    )
    def test_none_leaves_and_none_enters(self, settings, field, value):
        ProviderAccount.objects.create(provider="openai", key="the-accounts-own-key")
        settings.CARTESIA_API_KEY = "the-servers-own-key"
        settings.STREAM_TOKENS = ["the-streams-own-token"]
        profile = PromptProfile(name="Shop", slug="shop", system_prompt="Be brief.")
        setattr(profile, field, value)
        with pytest.raises(exchange.HoldsSecret, match=field):
            exchange.write(profile, profile.configuration())
        text = notation.write({"name": "Shop", "slug": "shop", "system_prompt": "x"} | {field: value})
        with pytest.raises(BadYaml, match="provider accounts"):
            exchange.read(text)

    def test_ordinary_words_are_none(self):
        """Though a log would leave some of them out."""
        text = "The bearer of the key-holders' API key: ask for the password: never say it. max_tokens=80"
        profile = PromptProfile(name="Shop", slug="shop", system_prompt=text, llm_settings={"max_tokens": 80})
        (read,) = exchange.read(exchange.write(profile, profile.configuration()))
        assert read.configuration == profile.configuration()


class TestStoring:
    def test_it_becomes_a_draft_and_nothing_is_published(self):
        (read,) = exchange.read(written(greeting="Hi"))
        profile = exchange.store(read)
        profile.refresh_from_db()
        assert (profile.name, profile.greeting, profile.is_published) == ("Shop", "Hi", False)
        assert not profile.versions.exists()

    def test_a_profiles_draft_is_replaced_and_calls_go_on_as_they_do(self):
        shop = publish_profile("shop", greeting="Old", is_default=True)
        exchange.store(exchange.read(written(greeting="New", name="The shop"))[0])
        shop.refresh_from_db()
        assert (shop.greeting, shop.name, shop.is_default, shop.is_published) == (
            "New",
            "The shop",
            True,
            True,
        )
        assert PromptProfile.objects.for_call("shop").in_full()["greeting"] == "Old"
        assert shop.has_changes
