"""What is said of a profile before it is published, and that it is not published if calls would fail."""

import pytest
from django.contrib.auth.models import User

from calls.models import PromptProfile, ProviderAccount
from calls.profiles import publishing
from calls.profiles.languages import choices, known_by, name_of
from calls.profiles.readiness import ERROR, READY, WARNING, errors, readiness, worst
from calls.providers import accounts, catalogue
from tests.conftest import publish_profile

CLOUD_VOICE = "71a7ad14-091c-4e8e-a314-022ece01c121"


@pytest.fixture(autouse=True)
def no_accounts(monkeypatch):
    monkeypatch.setattr(accounts, "_stored", {})


@pytest.fixture
def keys(settings):
    settings.CARTESIA_API_KEY = settings.OPENAI_API_KEY = "key"


def found(**fields):
    """What is found of a profile with these fields, by part, with its level."""
    profile = PromptProfile(**{"system_prompt": "Be brief."} | fields)
    return readiness(profile.configuration())


def problems(**fields):
    return [(f.level, f.part, f.field, f.setting) for f in found(**fields) if f.level != READY]


def said(**fields):
    """The one thing that is wrong, in words."""
    (finding,) = [f for f in found(**fields) if f.level != READY]
    return finding.message


def test_the_defaults_are_ready_and_say_who_answers():
    assert [(f.level, f.part, f.message) for f in found()] == [
        (READY, "Hearing", "Embedded (Moonshine), moonshine-tiny-en"),
        (READY, "Thinking", "Embedded (SmolLM2 135M), SmolLM2-135M-Instruct"),
        (READY, "Voice", "Embedded (Hibari), heart"),
    ]
    assert worst(found()) == READY
    assert worst([]) == READY


def test_with_keys_automatic_is_the_cloud(keys):
    assert [f.message for f in found(language="de")] == [
        "Cartesia, ink-whisper", "OpenAI, gpt-4o-mini", f"Cartesia, {CLOUD_VOICE}",
    ]  # fmt: skip


def test_without_a_key_the_embedded_one_stands_in_if_it_knows_the_language():
    assert said(tts_provider="cartesia") == "Cartesia: no key → the embedded one, English only"
    assert problems(tts_provider="cartesia", language="en-GB") == [(WARNING, "Voice", "tts_provider", "")]
    german = found(tts_provider="cartesia", stt_provider="cartesia", language="de")
    assert [f.message for f in errors(german)] == [
        "Cartesia: no key, and the embedded one knows English only"
    ] * 2
    assert said(llm_provider="openai") == "OpenAI: no key → the embedded one"


def test_the_fallback_stands_in_if_it_can(settings):
    """Not one that has no key itself, nor one that does not know the language."""
    without = {"llm_provider": "openai", "llm_fallback": "cartesia"}
    assert said(**without) == "OpenAI: no key → the embedded one"
    assert said(tts_provider="cartesia", tts_fallback="cartesia").endswith("the embedded one, English only")
    extra = catalogue.Provider("tts", "acme", "Acme", "acme", "build", (), languages=("de",))
    settings_of = {"tts_provider": "cartesia", "tts_fallback": "acme", "stt_provider": "cartesia"}
    catalogue.PROVIDERS.append(extra)
    try:
        german = found(**settings_of, language="de")
        assert (WARNING, "Cartesia: no key → Acme") in [(f.level, f.message) for f in german]
        assert said(**settings_of | {"stt_provider": "local"}).endswith("the embedded one, English only")
        other = {"tts_provider": "local", "tts_fallback": "acme", "language": "de"}
        assert "Embedded (Hibari) does not know German → Acme" in [f.message for f in found(**other)]
    finally:
        catalogue.PROVIDERS.remove(extra)


def test_a_text_with_a_name_that_is_not_known():
    assert problems(greeting="Hello {{ customer }}") == [(ERROR, "Texts", "greeting", "")]
    assert problems(transfer_announcement="To {{ destination }}, {{ caller|default:'you' }}") == []


def test_a_stored_key_counts(db):
    account = ProviderAccount(provider="openai")
    account.key = "sk"
    account.save()
    assert worst(found(llm_provider="openai")) == WARNING
    accounts.refresh()
    assert worst(found(llm_provider="openai")) == READY


def test_a_language_that_the_provider_does_not_know(keys):
    assert problems(stt_provider="local", language="de-AT") == [(ERROR, "Hearing", "language", "")]
    assert said(stt_provider="local", language="de-AT") == (
        "Embedded (Moonshine) does not know German (Austria)"
    )
    assert said(tts_provider="cartesia", language="cy") == "Cartesia does not know cy"


def test_a_language_that_automatic_does_not_know_without_keys():
    (hearing, _voice) = errors(found(language="fr"))
    assert hearing.message == (
        "Embedded (Moonshine) does not know French; automatic is the cloud once its keys are set"
    )


def test_hearing_in_another_language_than_the_profiles_is_a_warning(keys):
    settings = {"stt_settings": {"language": "en-US"}, "language": "de"}
    assert problems(**settings) == [(WARNING, "Hearing", "stt_settings", "language")]
    assert "listens for English (United States), and the profile's language is German" in said(**settings)
    assert problems(stt_settings={"language": "de-DE"}, language="de") == []


@pytest.mark.parametrize(
    ("kind", "provider", "given", "level", "message"),
    [
        ("tts", "local", {"voice": "emma"}, ERROR, "voice must be one of heart, not 'emma'"),
        ("llm", "local", {"model": "gpt-4o"}, ERROR, "model must be one of SmolLM2"),
        ("llm", "local", {"top_k": 4}, ERROR, "unknown setting 'top_k'"),
        ("stt", "local", {"model": "moonshine-base-en"}, ERROR, "is not installed: make better-stt"),
        ("tts", "auto", {"voice": CLOUD_VOICE}, WARNING, "does not take this voice and uses its own"),
    ],
)
def test_what_the_provider_does_not_have(kind, provider, given, level, message):
    fields = {f"{kind}_provider": provider, f"{kind}_settings": given}
    (setting,) = given
    assert problems(**fields) == [(level, {"stt": "Hearing", "llm": "Thinking", "tts": "Voice"}[kind],
                                   f"{kind}_settings", setting)]  # fmt: skip
    assert message in said(**fields)


def test_an_installed_model_is_ready(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    (tmp_path / "models" / "moonshine-base-en").mkdir(parents=True)
    assert problems(stt_provider="local", stt_settings={"model": "moonshine-base-en"}) == []


def test_a_provider_that_is_gone():
    assert problems(tts_provider="gone", llm_provider="gone") == [
        (ERROR, "Thinking", "llm_provider", ""),
        (ERROR, "Voice", "tts_provider", ""),
    ]


def test_a_prompt_longer_than_the_model_takes_or_none():
    long = "You answer the telephone of a shop. " * 200
    assert problems(system_prompt=long) == [(ERROR, "Prompt", "system_prompt", "")]
    assert "7,200 characters; Embedded (SmolLM2 135M) takes 3,000" in said(system_prompt=long)
    assert problems(system_prompt=" ") == [(ERROR, "Prompt", "system_prompt", "")]


def test_a_call_that_is_over_before_the_greeting():
    limits = {"greeting": "We are here for you. " * 20, "max_duration_s": 30}
    assert said(**limits) == "The greeting takes about 30 s to say, and the call ends after 30 s"
    assert problems(**limits | {"max_duration_s": 60}) == []


class TestPublishing:
    pytestmark = pytest.mark.django_db

    def test_what_would_fail_is_not_published(self):
        profile = publish_profile("sales")
        profile.language, profile.tts_settings = "de", {"colour": "red"}
        profile.save()
        with pytest.raises(publishing.NotReady, match="Voice: unknown setting 'colour'") as refused:
            publishing.publish(profile)
        assert [f.field for f in refused.value.findings] == ["language", "tts_settings", "language"]
        assert profile.versions.count() == 1

    def test_what_works_is_published_by_somebody_with_a_note(self):
        author = User.objects.create_user("ann")
        profile = PromptProfile.objects.create(name="A", slug="a", system_prompt="x", tts_provider="cartesia")
        version = publishing.publish(profile, author, "the first")
        assert PromptProfile.objects.for_call("a") == version
        assert (version.author, version.note, profile.is_published) == (author, "the first", True)

    def test_the_keys_of_this_moment_count(self):
        profile = PromptProfile.objects.create(name="A", slug="a", system_prompt="x", language="de")
        with pytest.raises(publishing.NotReady):
            publishing.publish(profile)
        for provider in ("openai", "cartesia"):
            account = ProviderAccount(provider=provider)
            account.key = "key"
            account.save()
        assert publishing.publish(profile).number == 1


class TestLanguages:
    def test_they_are_listed_by_name_with_who_knows_them(self):
        offered = dict(choices())
        assert offered["en"] == "English · en · embedded, Cartesia"
        assert offered["pt-BR"] == "Portuguese (Brazil) · pt-BR · Cartesia"
        names = [name_of(tag) for tag in offered]
        assert names == sorted(names)
        assert {"de", "es", "fr", "de-CH"} <= {*offered}

    def test_a_tag_of_its_own_stays_one(self):
        assert (name_of("tlh"), name_of("en-NZ")) == ("tlh", "English (NZ)")
        assert known_by("tlh") == []

    def test_who_only_hears_does_not_know_it(self):
        assert catalogue.find("stt", "cartesia").knows("cy")
        assert known_by("cy") == []

    def test_every_tag_can_be_stored(self):
        for tag, _ in choices():
            PromptProfile(name="x", slug="x", system_prompt="x", language=tag).full_clean(
                validate_unique=False, validate_constraints=False
            )
