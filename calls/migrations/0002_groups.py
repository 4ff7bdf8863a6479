"""The groups Admins (manage profiles and provider accounts, see calls) and Analysts (see profiles and calls)."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

SEEN = ["promptprofile", "profileversion", "callsession", "turn", "callevent", "node"]
MANAGED = ["promptprofile", "provideraccount"]
VIEW = [f"view_{model}" for model in SEEN]
MANAGE = [f"{verb}_{model}" for verb in ("add", "change", "delete", "view") for model in MANAGED]
GROUPS = {"Admins": [*VIEW, *MANAGE], "Analysts": VIEW}


def create_groups(apps, schema_editor):
    database = schema_editor.connection.alias
    # Django makes permissions only after all migrations have run, which is too late on a fresh database.
    config = apps.get_app_config("calls")
    config.models_module = True
    create_permissions(config, apps=apps, verbosity=0, using=database)
    config.models_module = None
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    for name, codenames in GROUPS.items():
        group, _ = apps.get_model("auth", "Group").objects.using(database).get_or_create(name=name)
        group.permissions.add(*permissions.filter(content_type__app_label="calls", codename__in=codenames))


class Migration(migrations.Migration):
    dependencies = [
        ("calls", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # Groups stay on the way back: people may have been added to them.
    operations = [migrations.RunPython(create_groups, migrations.RunPython.noop)]
