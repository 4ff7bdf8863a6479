"""Trying a profile out as it stands in the form, before it is saved."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern, path

from calls.admin.forms import UnsavedProfileForm
from calls.models import PromptProfile, TrialTicket


class TriableAdmin(admin.ModelAdmin):
    """The admin of profiles, with an address that takes the form's values for one call."""

    def get_urls(self) -> list[URLPattern]:
        """Return the admin's addresses, and that one: `?profile=` is the key of a profile that is stored."""
        view = self.admin_site.admin_view(self.try_values)
        return [path("try/", view, name="calls_promptprofile_try"), *super().get_urls()]

    def try_values(self, request: HttpRequest) -> Any:
        """Keep the form's values, which are not saved, and return a ticket for the call; or the mistakes."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        pk = request.GET.get("profile", "")
        stored = self.get_object(request, pk) if pk else None
        allowed = self.has_change_permission(request, stored) if pk else self.has_add_permission(request)
        if not allowed or (pk and stored is None):
            raise PermissionDenied
        form = self.get_form(request, stored, change=stored is not None, form=UnsavedProfileForm)(
            request.POST, request.FILES, instance=stored or PromptProfile()
        )
        form.is_valid()
        wrong = {name: errors for name, errors in form.errors.items() if name not in NOT_ASKED}
        if wrong:
            return JsonResponse({"mistakes": [_told(form, name, each) for name, each in wrong.items()]})
        profile = form.instance
        assert request.user.pk is not None  # noqa: S101  the admin lets nobody in who is not stored
        ticket = TrialTicket.objects.issue(request.user.pk, profile, profile.configuration())
        return JsonResponse({"ticket": ticket})


# What a profile is called and who may use it does not change how it talks.
NOT_ASKED = {"name", "slug", "is_default", "is_published", "confirmed", "seen", "note", "__all__"}


def _told(form: Any, name: str, errors: Any) -> dict[str, str]:
    """Return a field's mistakes for people."""
    return {"field": str(form.fields[name].label or name), "error": " ".join(errors)}
