"""Which errors say that a row is bad, and which that the database cannot write just now."""

from django.db import DataError, IntegrityError

# What a verb of the models raises for a value that it cannot use.
_OF_OUR_VERBS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
# Classes of SQLSTATE: data exception, integrity constraint violation, program limit exceeded. PostgreSQL
# refuses a value too long for an index with the last, which psycopg takes for an operational error.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_OF_THE_ROW = ("22", "23", "54")


def is_refusal(error: Exception) -> bool:
    """Whether the error is about the row itself, which no later try can store.

    Everything else is about the state of the database or of this machine: a lost connection, a full disk, a
    server that only reads after a failover, a schema that lags behind, a folder that is gone. The same row
    may be stored later.
    """
    if isinstance(error, (IntegrityError, DataError, *_OF_OUR_VERBS)):
        return True
    return (getattr(error.__cause__, "sqlstate", None) or "").startswith(_OF_THE_ROW)
