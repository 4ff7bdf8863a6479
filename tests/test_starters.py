"""What new profiles can start from can be published as it is, in each language."""

import pytest

from calls.models import PromptProfile
from calls.profiles.readiness import READY, readiness, worst
from calls.profiles.starters import KINDS, LANGUAGES, starters
from calls.providers import catalogue

# Words that only one of the languages has, to notice a text in the wrong one.
TELLING = {
    "en": {"the", "and", "you"}, "de": {"und", "du", "nicht"},
    "es": {"una", "con", "el"}, "fr": {"vous", "ne", "et"},
}  # fmt: skip


def test_every_kind_is_there_in_every_language():
    assert {*starters()} == {(kind, language) for kind in KINDS for language in LANGUAGES}
    assert len(KINDS) == 5


@pytest.mark.parametrize("which", starters())
def test_it_is_a_valid_profile_that_the_cloud_can_be(which, settings):
    settings.CARTESIA_API_KEY = settings.OPENAI_API_KEY = "key"
    starter = starters()[which]
    profile = PromptProfile(slug="x", **starter.fields())
    profile.full_clean(validate_unique=False, validate_constraints=False)
    assert worst(readiness(profile.configuration())) == READY
    assert all(starter.fields().values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_english_one_is_ready_without_keys(kind):
    profile = PromptProfile(slug="x", **starters()[kind, "en"].fields())
    assert worst(readiness(profile.configuration())) == READY
    assert catalogue.fit_prompt("local", profile.system_prompt) == (profile.system_prompt, "")


@pytest.mark.parametrize("which", starters())
def test_each_text_is_in_its_language_and_can_be_spoken(which):
    starter = starters()[which]
    words = starter.system_prompt.lower().split()
    counts = {language: sum(word in telling for word in words) for language, telling in TELLING.items()}
    assert max(counts, key=counts.get) == starter.language
    assert "{{ destination }}" in starter.transfer_announcement
    for text in (starter.greeting, starter.apology, starter.farewell, starter.transfer_announcement):
        assert 15 < len(text) < 130, "as long as one breath"
        assert text[-1] in ".!?"
        assert not {*"[]*#\n"} & {*text}
    assert len({s.name for s in starters().values()}) == len(starters())
