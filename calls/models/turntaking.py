"""Those who change the same table take turns: whoever comes second sees what the first has saved."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections, models, router, transaction


@contextmanager
def one_at_a_time(model: type[models.Model], using: str | None = None) -> Iterator[None]:
    """Run a transaction in which nobody else writes the model's table; others read it meanwhile.

    What is checked in it still holds when it is saved. SQLite has one writer at a time anyway.
    """
    database = using or router.db_for_write(model)
    connection = connections[database]
    with transaction.atomic(using=database):
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                table = connection.ops.quote_name(model._meta.db_table)
                # Not a stronger one: the rows of calls that begin refer to this table and take ROW SHARE.
                cursor.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
        yield
