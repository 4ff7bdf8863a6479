"""How calls are named in addresses."""

from uuid import UUID

from django.http import HttpRequest, QueryDict


class CallId:
    """A call's id in an address, in small or capital letters, as some programs copy it."""

    regex = "[0-9A-Fa-f-]{32,36}"

    def to_python(self, value: str) -> UUID:
        """Return the id. Raises ValueError for what is none, which then is no address."""
        return UUID(value)

    def to_url(self, value: UUID | str) -> str:
        """Return the id as it is written in links."""
        return str(value)


def list_seen(request: HttpRequest) -> str:
    """Return the query of the list of calls that this page of it was asked by, or "": filters and place."""
    return _filled(request.GET)


def list_left(request: HttpRequest) -> str:
    """Return the query of the list from which this call was opened, or ""."""
    return _filled(QueryDict(request.GET.get("list", "")))


def _filled(query: QueryDict) -> str:
    kept = QueryDict(mutable=True)
    for name, values in query.lists():
        kept.setlist(name, [value for value in values if value])
    return kept.urlencode()
