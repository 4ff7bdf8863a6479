"""Searching stored calls: what the indexes find is what `calls.models.query` says has to be found."""

import re

import pytest
from django.core.management import call_command
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calls.models import CallSession, Description, Turn, search_index
from calls.models.query import parse
from calls.models.search import looked_through
from tests.conftest import turn_row

pytestmark = pytest.mark.django_db

TABLES = ("calls_turn", "calls_callnames")


def both_ways(text):
    """The ids of the calls that `text` finds, which are the same by the index and looked at one by one."""
    by_index = {call.id for call in CallSession.objects.search(text)}
    one_by_one = {call.id for call in looked_through(CallSession.objects.all(), parse(text))}
    assert by_index == one_by_one, text
    return by_index


def indexed(word):
    """How many rows the index of turns has for a word, whether or not the turns are there."""
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT count(*) FROM calls_turn_words WHERE calls_turn_words MATCH %s", [word])
        else:
            cursor.execute("SELECT count(*) FROM calls_turn WHERE folded LIKE %s", [f"% {word} %"])
        return cursor.fetchone()[0]


class TestWhatIsFound:
    def test_all_words_have_to_be_in_one_turn(self, make_call):
        together = make_call(said=[("caller", "Tea, please, and cake")])
        make_call(said=[("caller", "tea"), ("agent", "cake")])
        assert both_ways("cake tea") == {together.id}

    def test_a_call_is_found_once_however_often_it_was_said(self, make_call):
        call = make_call(room_id="tea", said=[("caller", "tea"), ("agent", "tea")])
        assert [found.id for found in CallSession.objects.search("tea")] == [call.id]

    def test_room_caller_and_callee_are_found_together(self, make_call):
        call = make_call(room_id="blue-room-1", caller="+49 (30) 123-45", callee="Warehouse")
        make_call(room_id="green-room-1")
        for text in ("blue warehouse", "0301 2345", "2345", "+493012345", "WARE", "blue-room"):
            assert both_ways(text) == {call.id}, text
        assert both_ways("blue green") == set()

    def test_what_is_told_of_a_call_later_replaces_what_was_told(self, make_call):
        call = make_call(caller="Anna")
        told = {"room_id": "", "caller": "Berta", "callee": "", "metadata": {}, "client_configs": {}}
        CallSession.objects.describe(call.id, Description(**told))
        assert both_ways("anna") == set()
        assert both_ways("berta") == {call.id}

    def test_a_search_goes_with_other_filters(self, make_call):
        make_call(caller="Ann", said=[("caller", "tea")])
        berta = make_call(caller="Berta", said=[("caller", "tea")])
        assert list(CallSession.objects.filter(caller="Berta").search("tea")) == [berta]
        assert list(CallSession.objects.search("tea").filter(caller="Berta")) == [berta]

    def test_nothing_that_is_typed_breaks_it(self, make_call):
        call = make_call(said=[("caller", "near or and not: tea")])
        for text in (
            "'",
            '"',
            '""',
            "a' OR 1=1",
            "tea NEAR",
            "NOT tea",
            "(tea",
            "tea & | !",
            "tea:*",
            "\\",
            "%s",
        ):
            both_ways(text)
        assert both_ways("near OR NOT tea") == {call.id}

    # Few characters, so that what is asked for is often there, of those that databases could take otherwise.
    characters = st.sampled_from("aAéß'’-.*%_\\\"& 0123٣１電話がΣςहिन्दु\u0301\u200dİŉ¦|:()<>!")

    @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        said=st.lists(st.text(characters, max_size=12), min_size=1, max_size=6),
        asked=st.lists(st.text(characters, min_size=1, max_size=5), min_size=1, max_size=3),
        quote=st.booleans(),
    )
    def test_the_database_finds_what_the_query_says(self, make_call, said, asked, quote):
        calls = {
            make_call(room_id="", caller="", callee="", said=[("caller", text)]).id: text for text in said
        }
        for typed in [*asked, " ".join(asked), *said, said[0][1:-1]]:
            text = f'"{typed}"' if quote else typed
            if text.strip():
                folded = dict(Turn.objects.values_list("session_id", "folded"))
                assert both_ways(text) == {id for id in calls if parse(text).matches(folded[id])}, text
        CallSession.objects.all().delete()


class TestTheIndex:
    def test_words_that_may_still_change_are_not_in_it(self, make_call):
        call = make_call()
        Turn.objects.record([turn_row(call.id, 0, text="umbr", final=False)])
        assert Turn.objects.get().text == "umbr"
        assert (both_ways("umbr"), indexed("umbr")) == (set(), 0)
        Turn.objects.record([turn_row(call.id, 0, text="umbrella", final=True)])
        assert (both_ways("umbrella"), indexed("umbrella")) == ({call.id}, 1)

    def test_it_follows_corrections(self, make_call):
        call = make_call(said=[("caller", "tea and cake")])
        Turn.objects.record([turn_row(call.id, 0, text="coffee and cake")])
        assert (both_ways("tea"), indexed("tea")) == (set(), 0)
        assert both_ways("coffee") == both_ways("cake") == {call.id}

    def test_a_call_that_is_erased_leaves_nothing_in_it(self, make_call):
        call = make_call(caller="Anna", said=[("caller", "tea")])
        kept = make_call(said=[("caller", "tea")])
        assert indexed("tea") == 2
        call.delete()
        assert (both_ways("tea"), indexed("tea"), both_ways("anna")) == ({kept.id}, 1, set())

    def test_it_is_made_again_after_a_migration_that_took_it_along(self, make_call):
        """As Django does on SQLite, where it makes a table anew to change a column."""
        for table in TABLES if connection.vendor == "sqlite" else ():
            search_index.drop(connection, table)
        call_command("migrate", verbosity=0)
        call = make_call(caller="Anna", said=[("caller", "tea")])
        assert both_ways("tea") == both_ways("anna") == {call.id}
        for table in TABLES:
            search_index.rebuild(connection, table)
        assert indexed("tea") == 1

    def test_it_is_used(self, make_call):
        """Not every row is looked at: a plan names the index."""
        make_call(said=[("caller", "tea")])
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET LOCAL enable_seqscan = off")  # which it prefers for a few rows
            plan = CallSession.objects.search("tea").explain()
        index = "calls_turn_words" if connection.vendor == "postgresql" else "VIRTUAL TABLE INDEX"
        assert index in plan
        assert not re.search(r"(SCAN|Seq Scan on) calls_turn\b", plan)
