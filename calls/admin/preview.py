"""Django admin: what a profile's texts become in a call, before they are saved."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html

from calls.models import PromptProfile
from calls.profiles import templates


class TextsForm(forms.Form):
    """The texts of the profile's form, whatever else it sends."""

    language = forms.CharField(required=False, max_length=20)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in templates.TEXTS:
            self.fields[name] = forms.CharField(required=False, max_length=templates.MOST_CHARS, strip=False)


class PreviewMixin(admin.ModelAdmin):
    """Adds the page, and `preview`, the button to it, which takes along what is typed."""

    def get_urls(self) -> list[URLPattern]:
        """Add the page that shows the texts."""
        view = self.admin_site.admin_view(self.preview_view)
        return [path("preview/", view, name="calls_promptprofile_preview"), *super().get_urls()]

    @admin.display(description="as they are heard")
    def preview(self, profile: PromptProfile) -> str:
        """Return the button."""
        return format_html(
            '<button class="button" formaction="{}" formtarget="_blank" formnovalidate>Preview</button> '
            '<span class="help">with sample values, as typed here</span>',
            reverse("admin:calls_promptprofile_preview"),
        )

    def preview_view(self, request: HttpRequest) -> HttpResponse:
        """Show the texts as they are spoken, once with values for all names and once with hardly any."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        form = TextsForm(request.POST)
        form.is_valid()
        typed: dict[str, str] = {name: form.cleaned_data.get(name, "") for name in templates.TEXTS}
        language = form.cleaned_data.get("language") or "en"
        samples = templates.samples_for(typed, language)
        bare = {name: samples[name] for name in ("now", "profile", "destination")}
        texts = [
            {
                "label": name.replace("_", " "),
                "problems": [*form.errors.get(name, []), *templates.problems(text, templates.TEXTS[name])],
                "spoken": templates.render(text, samples),
                "bare": templates.render(text, bare),
            }
            for name, text in typed.items()
            if text or name in form.errors
        ]
        context = {
            **self.admin_site.each_context(request),
            "title": "What is said",
            "opts": self.opts,
            "texts": texts,
            "samples": {name: value for name, value in samples.items() if f" {name}" in _names(typed)},
        }
        return TemplateResponse(request, "admin/calls/promptprofile/preview.html", context)


def _names(texts: dict[str, str]) -> str:
    return " ".join(["", *(name for text in texts.values() for name in templates.names_in(text))])
