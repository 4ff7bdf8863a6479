"""`manage.py profiles`, as people and programs call it."""

import json
import re
import sys
from datetime import timedelta
from io import BytesIO, StringIO, TextIOWrapper

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from calls.models import CallEvent, PromptProfile
from tests.conftest import edit_profiles, event_row, publish_profile

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    return publish_profile("shop", name="The shop", is_default=True, greeting="Hello, this is the shop.")


def run(*arguments):
    """What the command prints."""
    out = StringIO()
    call_command("profiles", *arguments, stdout=out)
    return out.getvalue()


class TestList:
    def test_how_each_stands_without_a_verb_as_well(self, shop, make_call):
        publish_profile("old").archive()
        call = make_call(profile=shop, started_at=timezone.now() - timedelta(minutes=1))
        CallEvent.objects.record([event_row(call.id)])
        PromptProfile.objects.filter(slug="shop").update(greeting="Changed")
        heading, row = run().splitlines()
        assert re.split(r"\s{2,}", heading) == [
            "SLUG", "NAME", "PUBLISHED", "READY", "CALLS 7 D", "ERRORS", "ANSWER"
        ]  # fmt: skip
        assert re.split(r"\s{2,}", row) == [
            "shop (default)", "The shop", "v1, draft has changes", "ready", "1", "1", "-"
        ]  # fmt: skip
        assert run("list") == run()
        assert "old" in run("list", "--archived")

    def test_json_for_programs(self, shop):
        PromptProfile.objects.create(name="Idea", slug="idea", system_prompt="x", llm_provider="gone")
        first, idea = json.loads(run("list", "--json"))
        assert first == {
            "slug": "shop", "name": "The shop", "is_default": True, "is_published": True, "version": 1,
            "has_changes": False, "readiness": "ready", "problems": [], "calls": 0, "failed": 0,
            "median_ms": None,
        }  # fmt: skip
        assert (idea["version"], idea["readiness"]) == (None, "error")
        assert idea["problems"] == ["Thinking: gone: there is no such provider here"]

    def test_no_profile(self):
        assert run() == "There is no profile.\n"
        assert run("list", "--archived") == "There is no archived profile.\n"


class TestShow:
    def test_what_calls_use(self, shop):
        PromptProfile.objects.update(greeting="Not yet")
        out = run("show", "shop")
        assert out.startswith("The shop (shop), version 1, published ")
        assert "\nGreeting\n    Hello, this is the shop.\n" in out
        assert "Longest duration: 3600 s\n" in out
        assert "Not yet" in run("show", "shop", "--version", "draft")

    def test_what_would_not_work(self, shop):
        edit_profiles(llm_provider="gone")
        assert "error: Thinking: gone: there is no such provider here" in run("show", "shop")

    def test_what_changed(self, shop):
        edit_profiles(greeting="Hello, this is the new shop.", max_duration_s=60)
        out = run("show", "shop", "--since", "1")
        assert "Hello, this is the {+new +}shop." in out
        assert "Longest duration: 3600 s -> 60 s" in out
        assert "Nothing differs." in run("show", "shop", "--since", "draft")

    def test_what_is_not_there(self, shop):
        with pytest.raises(CommandError, match="There is no profile nobody; there are: shop"):
            run("show", "nobody")
        with pytest.raises(CommandError, match='no version 7: expected "draft" or a number from 1 to 1'):
            run("show", "shop", "--version", "7")


class TestFiles:
    @pytest.fixture
    def file(self, tmp_path):
        return tmp_path / "profiles.yaml"

    def test_out_and_in_again(self, shop, file):
        PromptProfile.objects.update(farewell="Bye\r\n ", stt_settings={"language": "en"})
        publish_profile("night", greeting="Good night")
        before = {p.slug: p.configuration() for p in PromptProfile.objects.all()}
        run("export", "shop", "night", "--output", str(file))
        assert run("export", "shop", "night") == file.read_bytes().decode()
        assert run("import", str(file)).splitlines() == [
            "shop: the draft says this already",
            "night: the draft says this already",
        ]
        PromptProfile.objects.all().delete()
        assert run("import", str(file)).splitlines() == ["shop: made, as a draft", "night: made, as a draft"]
        assert {p.slug: p.configuration() for p in PromptProfile.objects.all()} == before
        assert not PromptProfile.objects.filter(is_published=True).exists()

    def test_an_older_version(self, shop):
        edit_profiles(greeting="Second")
        assert "greeting: Hello, this is the shop." in run("export", "shop", "--version", "1")

    def test_what_changes_is_said_and_can_be_tried(self, shop, file, monkeypatch):
        text = (
            run("export", "shop")
            .replace("the shop.", "the store.")
            .replace("llm_provider: auto", "llm_provider: x")
        )
        file.write_text(text)
        said = run("import", str(file), "--dry-run")
        assert "shop: the draft would be replaced" in said
        assert "the [-shop-]{+store+}." in said
        assert "shop: error: Thinking: x: there is no such provider here" in said
        shop.refresh_from_db()
        assert shop.greeting == "Hello, this is the shop."
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(text.encode())))
        assert "shop: the draft is replaced" in run("import", "-")
        shop.refresh_from_db()
        assert (shop.greeting, shop.is_default, shop.current_version.number) == (
            "Hello, this is the store.", True, 1
        )  # fmt: skip

    def test_all_of_a_file_or_nothing(self, file):
        file.write_text("name: a\nslug: a\nsystem_prompt: x\n---\nname: b\nslug: b\n")
        with pytest.raises(
            CommandError, match=f"{file}: line 5, column 1: the field system_prompt is missing"
        ):
            run("import", str(file))
        assert not PromptProfile.objects.exists()

    def test_a_file_that_cannot_be_read(self, file):
        with pytest.raises(CommandError, match="No such file"):
            run("import", str(file))
        file.write_bytes(b"name: \xff")
        with pytest.raises(CommandError, match="expected text in UTF-8; byte 6 is none"):
            run("import", str(file))

    def test_a_file_that_cannot_be_written(self, shop, file):
        with pytest.raises(CommandError, match="nowhere/x: No such file"):
            run("export", "shop", "--output", str(file.with_name("nowhere") / "x"))

    def test_a_secret_does_not_leave(self, shop):
        PromptProfile.objects.update(llm_settings={"api_key": "abc"})
        with pytest.raises(CommandError, match=r"shop was not exported: llm_settings.api_key holds"):
            run("export", "shop")


class TestPublish:
    def test_the_draft_becomes_the_next_version(self, shop):
        PromptProfile.objects.update(greeting="Second")
        assert run("publish", "shop", "--note", "Shorter") == "shop: version 2 is published\n"
        version = PromptProfile.objects.for_call("shop")
        assert (version.in_full()["greeting"], version.note) == ("Second", "Shorter")
        assert run("publish", "shop") == "shop: version 2 says this already; calls use it\n"

    def test_what_would_fail_in_a_call_is_refused_with_its_field(self, shop):
        PromptProfile.objects.update(llm_provider="gone")
        with pytest.raises(
            CommandError, match=r"calls would fail:\nllm_provider: gone: there is no such provider"
        ):
            run("publish", "shop")
        assert shop.versions.count() == 1
