"""The profile of a call, with the database there and away."""

import asyncio
from functools import partial

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from calls.database import DatabaseThreads
from calls.events import Request
from calls.models import PromptProfile, ProviderAccount
from calls.profiles import choosing
from calls.profiles.in_force import CallConfig, for_request, in_force, wanted
from calls.providers import accounts, catalogue
from calls.providers.cloud import NO_KEY
from tests.conftest import publish_profile

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(choosing, "_remembered", {})
    monkeypatch.setattr(accounts, "_stored", {})


@pytest.fixture
def sales(db):
    PromptProfile.objects.ensure_default()
    return publish_profile("sales", name="Sales", greeting="Hi")


async def test_the_profile_asked_for(sales):
    chosen = await choosing.choose("sales")
    version = await sales.versions.aget()
    assert (chosen.version_id, chosen.slug, chosen.name) == (version.pk, "sales", "Sales")
    assert (chosen.configuration["greeting"], chosen.found) == ("Hi", True)


async def test_no_wish_gets_the_default(sales):
    chosen = await choosing.choose("")
    assert (chosen.slug, chosen.found) == ("default", True)


@pytest.mark.parametrize("slug", ["nobody", "draft"])
async def test_an_unknown_or_unpublished_one_gets_the_default_and_says_so(sales, slug):
    await sync_to_async(PromptProfile.objects.create)(name="Draft", slug="draft", is_published=False)
    chosen = await choosing.choose(slug)
    assert (chosen.slug, chosen.found) == ("default", False)


async def test_an_edit_is_in_force_for_the_next_call_once_it_is_published(sales):
    await choosing.choose("sales")
    sales.greeting = "Hello"
    await sync_to_async(sales.save)()
    assert (await choosing.choose("sales")).configuration["greeting"] == "Hi"
    await sync_to_async(sales.publish)()
    assert (await choosing.choose("sales")).configuration["greeting"] == "Hello"


async def test_with_the_database_away_a_profile_that_no_call_has_asked_for_answers(sales, monkeypatch):
    """All that are published are read now and then; one that is none of them is not answered silently."""
    await sync_to_async(choosing.any_embedded)()
    await choosing.choose("")

    def away(*_):
        raise OperationalError("away")

    monkeypatch.setattr(choosing, "_read", away)
    chosen = await choosing.choose("sales")
    assert (chosen.slug, chosen.found) == ("sales", True)
    other = await choosing.choose("nonsense")
    assert (other.slug != "nonsense", other.found) == (True, False)


async def test_with_the_database_away_the_last_known_answers(sales, monkeypatch):
    await choosing.choose("sales")

    def away(*_):
        raise OperationalError("away")

    monkeypatch.setattr(choosing, "_read", away)
    assert (await choosing.choose("sales")).configuration["greeting"] == "Hi"
    with pytest.raises(choosing.NoProfile):
        await choosing.choose("")


async def test_no_published_profile_at_all():
    await sync_to_async(PromptProfile.objects.all().delete)()
    await sync_to_async(PromptProfile.objects.create)(name="Draft", slug="draft")
    with pytest.raises(choosing.NoProfile):
        await choosing.choose("")


async def test_two_who_publish_at_once_get_numbers_of_their_own(sales):
    def edit(greeting):
        profile = PromptProfile.objects.get(pk=sales.pk)
        profile.greeting = greeting
        profile.save()
        return profile.publish().number

    threads = DatabaseThreads("edit", 4)
    numbers = await asyncio.gather(*(threads.run(partial(edit, f"Hello {n}")) for n in range(4)))
    threads.close()
    assert max(numbers) == await sales.versions.acount()


async def test_a_version_older_than_a_field_still_answers(sales):
    old = sales.configuration()
    del old["apology"]
    await sales.versions.acreate(number=2, configuration=old)
    chosen = await choosing.choose("sales")
    assert CallConfig.from_profile(chosen.configuration).apology.startswith("Sorry")


async def test_a_version_is_what_a_call_is_configured_by(sales):
    chosen = await choosing.choose("sales")
    config = CallConfig.from_profile(chosen.configuration)
    assert (config.greeting, config.stt.name, config.max_duration_s) == ("Hi", "local", 3600)


CLOUD_VOICE = "71a7ad14-091c-4e8e-a314-022ece01c121"


@pytest.mark.parametrize(
    ("has_keys", "provider", "taken"),
    [
        (False, "local", {"voice": "heart", "speed": 1.2}),
        (True, "cartesia", {"voice": CLOUD_VOICE, "speed": 1.2}),
    ],
)
def test_what_is_in_force_is_what_the_service_is_made_with(settings, has_keys, provider, taken):
    """Settings for the other provider are in force nowhere; nor does a key that is set later count."""
    if has_keys:
        settings.CARTESIA_API_KEY = settings.OPENAI_API_KEY = "key"
    draft = PromptProfile(tts_settings={"voice": CLOUD_VOICE, "speed": 1.2})
    config = CallConfig.from_profile(draft.configuration())
    settings.CARTESIA_API_KEY = settings.OPENAI_API_KEY = "" if has_keys else "key"
    assert config.tts.name == provider
    assert in_force(config, {})["tts"] == {"provider": provider, "settings": taken}
    assert wanted(config, "tts") == provider


def test_a_provider_that_is_gone_takes_no_settings_of_the_client():
    draft = PromptProfile(use_client_settings=True, tts_provider="gone", stt_provider="local")
    config = for_request(draft.configuration(), Request(tts={"voice": "heart"}, stt={"language": "en"}))
    assert (config.tts.name, config.tts.settings) == ("gone", {})
    assert config.stt.settings == {"language": "en"}


def test_settings_that_nobody_takes_stay_to_be_told():
    draft = PromptProfile(tts_settings={"colour": "red"})
    config = CallConfig.from_profile(draft.configuration())
    with pytest.raises(ValueError, match="unknown setting 'colour'"):
        catalogue.create("tts", config.tts.name, config.tts.settings, language="en")


@sync_to_async
def make_account(key="sk-stored", **fields):
    account = ProviderAccount(**{"provider": "openai", "base_url": "http://127.0.0.1:9/v1"} | fields)
    account.key = key
    account.save()


async def test_the_accounts_are_read_with_the_profile(sales, settings):
    """A stored key is used; without one, the one of the settings."""
    settings.OPENAI_API_KEY = "sk-settings"
    await make_account()
    await choosing.choose("sales")
    llm = catalogue.create("llm", "openai", {}, language="en")
    assert (llm._client.api_key, str(llm._client.base_url)) == ("sk-stored", "http://127.0.0.1:9/v1/")
    await sync_to_async(ProviderAccount.objects.update)(is_enabled=False)
    await choosing.choose("sales")
    llm = catalogue.create("llm", "openai", {}, language="en")
    assert (llm._client.api_key, str(llm._client.base_url)) == ("sk-settings", f"{settings.OPENAI_BASE_URL}/")


async def test_the_servers_key_goes_to_no_address_of_an_account(sales, settings):
    settings.OPENAI_API_KEY = "sk-settings"
    await make_account("")
    await choosing.choose("sales")
    llm = catalogue.create("llm", "openai", {}, language="en")
    assert (llm._client.api_key, str(llm._client.base_url)) == (NO_KEY, "http://127.0.0.1:9/v1/")


async def test_a_base_url_alone_is_an_account(sales):
    """For servers that need no key; without either there is none."""
    await make_account("")
    await make_account("", provider="cartesia", base_url="ws://127.0.0.1:9")
    await choosing.choose("sales")
    assert [catalogue.resolve(kind, "auto") for kind in catalogue.KINDS] == ["cartesia", "openai", "cartesia"]
    for kind in catalogue.KINDS:
        catalogue.create(kind, "auto", {}, language="en")
    await sync_to_async(ProviderAccount.objects.update)(base_url="")
    await choosing.choose("sales")
    assert catalogue.resolve("llm", "auto") == "local"
    with pytest.raises(catalogue.ProviderUnavailable, match="OPENAI_API_KEY"):
        catalogue.create("llm", "openai", {}, language="en")


async def test_accounts_alone_make_the_cloud_the_automatic_choice(sales):
    await make_account()
    await choosing.choose("sales")
    assert catalogue.resolve("stt", "auto") == "local"
    await make_account("sk_car", provider="cartesia", base_url="ws://127.0.0.1:9")
    await choosing.choose("sales")
    assert [catalogue.resolve(kind, "auto") for kind in catalogue.KINDS] == ["cartesia", "openai", "cartesia"]
    stt = catalogue.create("stt", "auto", {}, language="en")
    tts = catalogue.create("tts", "auto", {}, language="en")
    assert (stt._api_key, stt._scheme, stt._base_url) == ("sk_car", "ws", "127.0.0.1:9")
    assert (tts._api_key, tts._url) == ("sk_car", "ws://127.0.0.1:9/tts/websocket")


async def test_a_key_that_cannot_be_read_counts_as_none_and_is_not_logged(sales, settings, caplog):
    await make_account()
    settings.SECRET_KEY = "another"
    await choosing.choose("sales")
    with pytest.raises(catalogue.ProviderUnavailable, match="OPENAI_API_KEY"):
        catalogue.create("llm", "openai", {}, language="en")
    assert (
        "the key of the account openai cannot be read: it was encrypted under another SECRET_KEY"
        in caplog.text
    )
    assert "sk-stored" not in caplog.text


async def test_no_account_is_read_where_a_service_is_made(sales):
    """Reading the database on the event loop raises SynchronousOnlyOperation."""
    await make_account()
    await choosing.choose("sales")
    assert accounts.account_of("openai", "OPENAI_API_KEY").key == "sk-stored"
    assert "sk-stored" not in repr(accounts.account_of("openai", "OPENAI_API_KEY"))
