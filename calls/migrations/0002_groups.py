"""The groups Admins (manage profiles and provider accounts, see calls) and Analysts (see profiles and calls)."""

from django.db import migrations

from calls.models.groups import let

SEEN = ["promptprofile", "profileversion", "callsession", "turn", "callevent", "node"]
MANAGED = ["promptprofile", "provideraccount"]
VIEW = [f"view_{model}" for model in SEEN]
MANAGE = [f"{verb}_{model}" for verb in ("add", "change", "delete", "view") for model in MANAGED]
GROUPS = {"Admins": [*VIEW, *MANAGE], "Analysts": VIEW}


def create_groups(apps, schema_editor):
    for name, codenames in GROUPS.items():
        let(name, codenames, apps, schema_editor)


class Migration(migrations.Migration):
    dependencies = [
        ("calls", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # Groups stay on the way back: people may have been added to them.
    operations = [migrations.RunPython(create_groups, migrations.RunPython.noop)]
