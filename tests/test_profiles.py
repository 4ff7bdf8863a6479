"""The profile of a call, with the database there and away."""

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from calls.models import PromptProfile
from calls.profiles import choosing

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    monkeypatch.setattr(choosing, "_remembered", {})


@pytest.fixture
def sales(db):
    PromptProfile.objects.ensure_default()
    return PromptProfile.objects.create(name="Sales", slug="sales", is_published=True, greeting="Hi")


async def test_the_profile_asked_for(sales):
    chosen = await choosing.choose("sales")
    assert (chosen.id, chosen.snapshot["greeting"], chosen.found) == (sales.pk, "Hi", True)


async def test_no_wish_gets_the_default(sales):
    chosen = await choosing.choose("")
    assert (chosen.snapshot["slug"], chosen.found) == ("default", True)


@pytest.mark.parametrize("slug", ["nobody", "draft"])
async def test_an_unknown_or_unpublished_one_gets_the_default_and_says_so(sales, slug):
    await sync_to_async(PromptProfile.objects.create)(name="Draft", slug="draft", is_published=False)
    chosen = await choosing.choose(slug)
    assert (chosen.snapshot["slug"], chosen.found) == ("default", False)


async def test_an_edit_is_in_force_for_the_next_call(sales):
    await choosing.choose("sales")
    sales.greeting = "Hello"
    await sync_to_async(sales.save)()
    assert (await choosing.choose("sales")).snapshot["greeting"] == "Hello"


async def test_with_the_database_away_the_last_known_answers(sales, monkeypatch):
    await choosing.choose("sales")

    def away(slug):
        raise OperationalError("away")

    monkeypatch.setattr(choosing, "_read", away)
    assert (await choosing.choose("sales")).snapshot["greeting"] == "Hi"
    with pytest.raises(choosing.NoProfile):
        await choosing.choose("")


async def test_no_published_profile_at_all():
    await sync_to_async(PromptProfile.objects.all().delete)()
    with pytest.raises(choosing.NoProfile):
        await choosing.choose("")
