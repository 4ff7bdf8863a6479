"""Two who save at once: the second is answered as if it had come a moment later."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse

from calls.models.turntaking import one_at_a_time


class OneAtATimeAdmin(admin.ModelAdmin):
    """An admin whose forms are checked and saved one after the other, so that what was checked holds."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show and save an object."""
        return self._in_turn(super().changeform_view, request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Ask, and delete an object."""
        return self._in_turn(super().delete_view, request, *args, **kwargs)

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """List the objects, and do what is to be done with those chosen."""
        return self._in_turn(super().changelist_view, request, *args, **kwargs)

    def _in_turn(self, view: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        if request.method != "POST":
            return view(request, *args, **kwargs)
        with one_at_a_time(self.model):
            return view(request, *args, **kwargs)
