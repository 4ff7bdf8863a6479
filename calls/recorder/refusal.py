"""Which errors say that a row is bad, and which that the database cannot write just now."""

from django.db import DataError, Error, IntegrityError

# Classes of SQLSTATE: data exception, integrity constraint violation, program limit exceeded. PostgreSQL
# refuses a value too long for an index with the last, which psycopg takes for an operational error.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OF_THE_ROW = ("22", "23", "54")


def is_refusal(error: Exception) -> bool:
    """Whether the error is about the row itself, which no later try can store.

    Everything else that a database says is about its state: a lost connection, a full disk, a server that
    only reads after a failover, a schema that lags behind. The same row may be stored later.
    """
    if isinstance(error, (IntegrityError, DataError)) or not isinstance(error, Error):
        return True
    return (getattr(error.__cause__, "sqlstate", None) or "").startswith(_OF_THE_ROW)
