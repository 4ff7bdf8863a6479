"""The calls application."""

from django.apps import AppConfig


class CallsConfig(AppConfig):
    """Calls, their profiles and what was said in them."""

    name = "calls"
    verbose_name = "Voice agent"
    default_auto_field = "django.db.models.BigAutoField"
