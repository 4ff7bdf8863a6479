"""What is done with every page, whoever makes it: ours and the admin's."""

from collections.abc import Callable

from django.core.exceptions import BadRequest
from django.http import HttpRequest, HttpResponse
from django.utils.cache import add_never_cache_headers
from django.utils.decorators import sync_only_middleware

from calls.database import file_of_database
from calls.pages.serving import PROBES

View = Callable[[HttpRequest], HttpResponse]


@sync_only_middleware
def plain(view: View) -> View:
    """Refuse addresses with NUL in them, which no link has and PostgreSQL takes for a mistake of ours."""

    def answer(request: HttpRequest) -> HttpResponse:
        query = request.META.get("QUERY_STRING", "")
        if "\0" in request.path or "%00" in query or "\0" in query:
            raise BadRequest("There is a NUL in the address.")
        return view(request)

    return answer


@sync_only_middleware
def with_database(view: View) -> View:
    """Make no page without the file of a SQLite database: to open it would put an empty one in its place."""

    def answer(request: HttpRequest) -> HttpResponse:
        if request.path not in PROBES:  # which say for themselves what is wrong
            file_of_database()
        return view(request)

    return answer


@sync_only_middleware
def personal(view: View) -> View:
    """Keep the pages of those who are logged in out of every cache: after logging out, Back shows none.

    It is the innermost middleware, and for sync views only: with it all of a page is made in one go in one
    thread. Else each middleware would go to the thread and back to the event loop.
    """

    def answer(request: HttpRequest) -> HttpResponse:
        response = view(request)
        if request.user.is_authenticated and not response.has_header("Cache-Control"):
            add_never_cache_headers(response)
        return response

    return answer
