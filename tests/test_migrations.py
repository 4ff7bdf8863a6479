"""Databases of before are brought up to date."""

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.conftest import turn_row


@pytest.mark.django_db(transaction=True)
def test_what_was_said_before_it_could_be_searched_without_punctuation_can_be(make_call):
    from calls.models import CallSession, Turn

    session = make_call(caller="Anna")
    Turn.objects.record([turn_row(session.id, 0, text="No, no, no."), turn_row(session.id, 1, text="")])
    try:
        MigrationExecutor(connection).migrate([("calls", "0002_groups")])
        MigrationExecutor(connection).migrate([("calls", "0003_turn_folded")])
    finally:
        MigrationExecutor(connection).migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())
    assert list(CallSession.objects.search('"no no"')) == [session]
    assert list(CallSession.objects.search("anna")) == [session]
    session.delete()
    assert list(CallSession.objects.search("no")) == []
