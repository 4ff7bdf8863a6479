"""The calls application."""

from typing import Any

from django.apps import AppConfig
from django.db import connections
from django.db.models.signals import post_migrate


class CallsConfig(AppConfig):
    """Calls, their profiles and what was said in them."""

    name = "calls"
    verbose_name = "Voice agent"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks of the settings, and what keeps the search in step with its tables."""
        from calls import checks  # noqa: F401  importing them is what registers them

        post_migrate.connect(_keep_search_in_step, sender=self)


def _keep_search_in_step(*, using: str, **_: Any) -> None:
    """Make again what a migration of the searched tables took along: Django drops triggers on SQLite."""
    from calls.models import search_index

    tables = {"calls_turn", "calls_callnames"}
    connection = connections[using]
    # After a migration backwards they may not be there, or not be searched.
    if connection.vendor == "sqlite" and tables <= set(connection.introspection.table_names()):
        for table in tables:
            search_index.create(connection, table)
