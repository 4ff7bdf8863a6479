"""Profiles leave the admin as YAML files and come back, first shown with what they change, as drafts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_safe

from calls.models import PromptProfile
from calls.models.turntaking import one_at_a_time
from calls.profiles import exchange
from calls.profiles.comparing import DRAFT, side
from calls.profiles.difference import Difference, between
from calls.profiles.exchange import HoldsSecret, Written
from calls.profiles.notation import MOST_CHARS, BadYaml
from calls.profiles.readiness import Finding, readiness

NAME = "calls_promptprofile"


class ImportForm(forms.Form):
    """A file, or its text. `clean` reads it; what it says is then `written`."""

    file = forms.FileField(label="A file", required=False)
    text = forms.CharField(
        label="Or its text",
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 20, "cols": 100, "spellcheck": "false", "class": "yaml"}),
    )
    revisions = forms.CharField(required=False, widget=forms.HiddenInput)
    written: Sequence[Written] = ()
    source = ""

    def clean(self) -> dict[str, Any]:
        """Read the profiles. What is wrong is said with its line and column."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if file := cleaned.get("file"):
            try:
                self.source = file.read(4 * MOST_CHARS).decode()
            except UnicodeDecodeError as e:
                raise forms.ValidationError(f"Expected text in UTF-8; byte {e.start} is none.") from None
        else:
            self.source = cleaned.get("text", "")
        if not self.source.strip():
            raise forms.ValidationError("Choose a file, or enter its text.")
        try:
            self.written = exchange.read(self.source)
        except BadYaml as e:
            raise forms.ValidationError(f"{str(e)[0].upper()}{str(e)[1:]}.") from None
        return cleaned


@dataclass(frozen=True)
class Change:
    """What a file would do to one draft."""

    written: Written
    profile: PromptProfile  # not saved if it is new
    difference: Difference
    findings: list[Finding]

    @property
    def is_new(self) -> bool:
        """Whether there is no such profile yet."""
        return self.profile.pk is None

    @property
    def renames(self) -> bool:
        """Whether an existing profile gets another name."""
        return not self.is_new and self.profile.name != self.written.name


class ExchangeAdmin(admin.ModelAdmin):
    """An admin of profiles that writes and reads files."""

    def get_urls(self) -> list[URLPattern]:
        """Add the pages to export and to import to the admin's own."""
        protected = self.admin_site.admin_view
        return [
            path("import/", protected(self.import_view), name=f"{NAME}_import"),
            path(
                "<path:object_id>/export/", protected(require_safe(self.export_view)), name=f"{NAME}_export"
            ),
            *super().get_urls(),
        ]

    def export_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send the draft as a file, or the version `?version=`."""
        profile = self.get_object(request, object_id)
        if not self.has_view_permission(request, profile):
            raise PermissionDenied
        chosen = side(profile, request.GET.get("version") or DRAFT) if profile else None
        if profile is None or chosen is None:
            raise Http404("There is no such profile or version.")
        try:
            text = exchange.write(profile, chosen.configuration)
        except HoldsSecret as e:
            self.message_user(request, f"“{profile}” was not exported: {e}", messages.ERROR)
            return redirect(reverse(f"admin:{NAME}_change", args=[profile.pk]))
        which = f"-v{chosen.name}" if chosen.version else ""
        name = f'attachment; filename="{profile.slug}{which}.yaml"'
        return HttpResponse(text, "application/yaml; charset=utf-8", headers={"Content-Disposition": name})

    def import_view(self, request: HttpRequest) -> HttpResponse:
        """Ask for a file, show what it changes, and save it as drafts if that is confirmed."""
        if not (self.has_add_permission(request) and self.has_change_permission(request)):
            raise PermissionDenied
        form = ImportForm(request.POST or None, request.FILES or None, label_suffix="")
        if request.method != "POST" or not form.is_valid():
            return self._import_page(request, form, [])
        with one_at_a_time(PromptProfile):
            changes = [_change(written) for written in form.written]
            revisions = " ".join(f"{each.written.slug}:{each.profile.revision}" for each in changes)
            if "confirmed" in request.POST and form.cleaned_data["revisions"] == revisions:
                self._store(request, changes)
                return self._imported(request, changes)
        if "confirmed" in request.POST:
            form.add_error(None, "Meanwhile somebody else changed one of these drafts. Look again.")
        form.data = {"text": form.source, "revisions": revisions}
        return self._import_page(request, form, changes)

    def _import_page(self, request: HttpRequest, form: ImportForm, changes: list[Change]) -> HttpResponse:
        if form.is_bound and not changes and form.source:
            form.data = {"text": form.source}  # the file is there to be mended
        context = {
            **self.admin_site.each_context(request),
            "title": "Import profiles",
            "opts": self.opts,
            "form": form,
            "changes": changes,
        }
        return render(request, "admin/calls/promptprofile/import.html", context)

    def _store(self, request: HttpRequest, changes: list[Change]) -> None:
        with transaction.atomic():
            for change in changes:
                saved = exchange.store(change.written)
                if change.is_new:
                    self.log_addition(request, saved, "Imported from a file.")
                else:
                    self.log_change(request, saved, "Draft imported from a file.")

    def _imported(self, request: HttpRequest, changes: list[Change]) -> HttpResponse:
        names = ", ".join(f"“{change.written.name}”" for change in changes)
        self.message_user(request, f"Saved as drafts, and not published: {names}.", messages.SUCCESS)
        if len(changes) > 1:
            return redirect(f"admin:{NAME}_changelist")
        (profile,) = PromptProfile.objects.filter(slug=changes[0].written.slug)
        return redirect(reverse(f"admin:{NAME}_change", args=[profile.pk]))


def _change(written: Written) -> Change:
    profile = exchange.stored(written)
    difference = between(profile.configuration() if profile.pk else {}, written.configuration)
    return Change(written, profile, difference, readiness(written.configuration))
