"""What is said is stored as it is searched, too."""

from django.db import migrations, models

from calls.models.folding import folded

AT_ONCE = 1000  # turns


def fold(apps, schema_editor):
    turns = apps.get_model("calls", "Turn").objects.using(schema_editor.connection.alias)
    batch = []
    for turn in turns.exclude(text="").only("text").iterator(AT_ONCE):
        turn.folded = folded(turn.text)
        batch.append(turn)
        if len(batch) == AT_ONCE:
            turns.bulk_update(batch, ["folded"])
            batch = []
    turns.bulk_update(batch, ["folded"])


class Migration(migrations.Migration):
    dependencies = [("calls", "0002_groups")]

    operations = [
        migrations.AddField(
            model_name="turn",
            name="folded",
            field=models.TextField(
                blank=True, default="", editable=False, help_text="The text as it is searched."
            ),
            preserve_default=False,
        ),
        migrations.RunPython(fold, migrations.RunPython.noop),
    ]
