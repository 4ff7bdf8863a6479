"""Whether a turn's text changes any more; of those there are, all are final."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("calls", "0003_turn_folded")]

    operations = [
        migrations.AddField(
            model_name="turn",
            name="final",
            field=models.BooleanField(default=True, help_text="Its text does not change any more."),
        ),
        migrations.AlterField(
            model_name="turn",
            name="folded",
            field=models.TextField(
                blank=True, editable=False, help_text="The text as it is searched; empty until it is final."
            ),
        ),
    ]
