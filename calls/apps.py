"""The calls application."""

from django.apps import AppConfig


class CallsConfig(AppConfig):
    """Calls, their profiles and what was said in them."""

    name = "calls"
    verbose_name = "Voice agent"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks of the settings."""
        from calls import checks  # noqa: F401  importing them is what registers them
