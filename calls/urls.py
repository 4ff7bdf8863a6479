"""The pages and health checks of the calls application."""

urlpatterns: list[object] = []
