"""What groups may do, for migrations: Django makes permissions only after all of them have run."""

from collections.abc import Iterable
from typing import Any

from django.contrib.auth.management import create_permissions


def let(group: str, codenames: Iterable[str], apps: Any, schema_editor: Any) -> None:
    """Make the group if there is none, and give it permissions of this application by their code names."""
    database = schema_editor.connection.alias
    config = apps.get_app_config("calls")
    config.models_module = True  # without which none are made
    create_permissions(config, apps=apps, verbosity=0, using=database)
    config.models_module = None
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    found, _ = apps.get_model("auth", "Group").objects.using(database).get_or_create(name=group)
    found.permissions.add(*permissions.filter(content_type__app_label="calls", codename__in=list(codenames)))
