"""Calls are searched by an index: of what was said, and of room, caller and callee.

Needs calls_turn with `id`, `text`, `folded` and `final`, and calls_callsession with `id`, `room_id`, `caller` and `callee`.
What was said before is folded once more: how that is done has changed.
"""

from itertools import islice

import django.db.models.deletion
from django.db import migrations, models

from calls.models import search_index
from calls.models.folding import folded
from calls.models.query import names_folded

AT_ONCE = 2000  # rows


def fill(apps, schema_editor):
    connection = schema_editor.connection
    turns = apps.get_model("calls", "Turn").objects.using(connection.alias)
    calls = apps.get_model("calls", "CallSession").objects.using(connection.alias)
    names = apps.get_model("calls", "CallNames").objects.using(connection.alias)

    said = turns.filter(final=True).exclude(text="").order_by("pk").values_list("pk", "text")
    last = 0
    while some := list(said.filter(pk__gt=last)[:AT_ONCE]):
        with connection.cursor() as cursor:
            rows = [(folded(text), pk) for pk, text in some]
            cursor.executemany("UPDATE calls_turn SET folded = %s WHERE id = %s", rows)
        last = some[-1][0]

    called = calls.order_by("pk").values_list("pk", "room_id", "caller", "callee").iterator(AT_ONCE)
    while some := list(islice(called, AT_ONCE)):
        names.bulk_create(
            [names.model(session_id=pk, folded=names_folded(each)) for pk, *each in some],
            ignore_conflicts=True,
        )


def create(apps, schema_editor):
    for table in ("calls_turn", "calls_callnames"):
        search_index.create(schema_editor.connection, table)
        search_index.rebuild(schema_editor.connection, table)


def drop(apps, schema_editor):
    for table in ("calls_turn", "calls_callnames"):
        search_index.drop(schema_editor.connection, table)


class Migration(migrations.Migration):
    dependencies = [("calls", "0002_groups")]

    operations = [
        migrations.CreateModel(
            name="CallNames",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "folded",
                    models.TextField(
                        editable=False, help_text="Room, caller and callee as they are searched."
                    ),
                ),
                (
                    "session",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="names",
                        to="calls.callsession",
                    ),
                ),
            ],
            options={"default_permissions": ()},
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
        migrations.RunPython(create, drop),
    ]
