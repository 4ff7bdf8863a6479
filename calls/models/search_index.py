"""The index of folded words, on each database by its own means.

Both take words between blanks as they are; all that is known of languages is in `calls.models.folding`. Where
in a text a word stands is not in the index: SQLite's takes 18 MB for a million turns and would take 43.

- PostgreSQL: GIN on an expression. No configuration of a language and no locale has a say in it.
- SQLite: an FTS5 table (https://www.sqlite.org/fts5.html#external_content_tables) with the tokenizer `ascii`,
  for which all that is not ASCII is part of a word. Triggers keep it in step with its table.

Turns that are not final have no folded text, so that writing their words as they come costs nothing here.
"""

from typing import Any

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models.sql.compiler import SQLCompiler

from .query import Query

POSTGRES_WORDS = "array_to_tsvector(array_remove(string_to_array({}, ' '), ''))"
_POSTGRES_CREATE = (
    # Without the pending list of GIN, which a search would have to read through.
    f"CREATE INDEX IF NOT EXISTS {{table}}_words ON {{table}} USING gin ({POSTGRES_WORDS.format('folded')}) "
    "WITH (fastupdate = off)",
)
_POSTGRES_DROP = ("DROP INDEX IF EXISTS {table}_words",)

_FTS_FORGET = (
    "INSERT INTO {fts} ({fts}, rowid, folded) SELECT 'delete', old.id, old.folded WHERE old.folded <> '';"
)
_FTS_LEARN = "INSERT INTO {fts} (rowid, folded) SELECT new.id, new.folded WHERE new.folded <> '';"
_SQLITE_CREATE = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS {fts} USING fts5("
    "folded, content='{table}', content_rowid='id', tokenize='ascii', detail='none')",
    f"CREATE TRIGGER IF NOT EXISTS {{fts}}_insert AFTER INSERT ON {{table}} BEGIN {_FTS_LEARN} END",
    f"CREATE TRIGGER IF NOT EXISTS {{fts}}_delete AFTER DELETE ON {{table}} BEGIN {_FTS_FORGET} END",
    # One trigger for both, as it matters which comes first.
    "CREATE TRIGGER IF NOT EXISTS {fts}_update AFTER UPDATE OF id, folded ON {table} "
    f"WHEN old.folded <> new.folded OR old.id <> new.id BEGIN {_FTS_FORGET} {_FTS_LEARN} END",
)
_SQLITE_DROP = (
    *(f"DROP TRIGGER IF EXISTS {{fts}}_{name}" for name in ("insert", "delete", "update")),
    "DROP TABLE IF EXISTS {fts}",
)


class Indexed(models.Lookup):
    """`folded__indexed=query`: the rows the index finds, in which a phrase's words may be in any order.

    On SQLite the table has to have a column `id` of whole numbers.
    """

    lookup_name = "indexed"
    prepare_rhs = False
    rhs: Query

    def as_postgresql(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
        """Return the condition on the indexed expression."""
        column, params = compiler.compile(self.lhs)
        return f"{POSTGRES_WORDS.format(column)} @@ %s::tsquery", [*params, self.rhs.as_tsquery()]

    def as_sqlite(self, compiler: SQLCompiler, connection: BaseDatabaseWrapper) -> tuple[str, list[Any]]:
        """Return the condition that the row's number is among those of the FTS5 table."""
        alias, table = self.lhs.alias, fts_table(self.lhs.target.model._meta.db_table)
        rows = f"SELECT rowid FROM {table} WHERE {table} MATCH %s"  # noqa: S608  a table's name of ours
        return f'"{alias}"."id" IN ({rows})', [self.rhs.as_fts5()]


def fts_table(table: str) -> str:
    """Return the name of the FTS5 table that indexes `table`."""
    return f"{table}_words"


def create(connection: BaseDatabaseWrapper, table: str) -> None:
    """Make what is missing of the index of `table`, which has the columns `id` and `folded`.

    On SQLite, rows that the table has already are not in the index: see `rebuild`. Django drops a table's
    triggers when it changes its columns there; hence this is done after every migration.
    """
    _run(connection, _SQLITE_CREATE if connection.vendor == "sqlite" else _POSTGRES_CREATE, table)


def rebuild(connection: BaseDatabaseWrapper, table: str) -> None:
    """Put every row of `table` into its index; on PostgreSQL they are there anyway."""
    if connection.vendor == "sqlite":
        statements = (
            "INSERT INTO {fts} ({fts}) VALUES ('delete-all')",
            "INSERT INTO {fts} (rowid, folded) SELECT id, folded FROM {table} WHERE folded <> ''",
        )
        _run(connection, statements, table)


def drop(connection: BaseDatabaseWrapper, table: str) -> None:
    """Remove the index of `table`."""
    _run(connection, _SQLITE_DROP if connection.vendor == "sqlite" else _POSTGRES_DROP, table)


def _run(connection: BaseDatabaseWrapper, statements: tuple[str, ...], table: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement.format(table=table, fts=fts_table(table)))
