"""`manage.py serve`: everything a fresh machine needs, then the server."""

import secrets
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand

from calls.models import PromptProfile


class Command(BaseCommand):
    """Migrate, make the first profile and user, collect static files, warm the models, serve."""

    help = "Prepares the database and serves calls and pages on HOST:PORT until it is stopped."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """One switch: a node that others prepare only serves."""
        parser.add_argument(
            "--no-prepare",
            action="store_true",
            help="serve only: migrations and static files are somebody else's (one of several nodes)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until a signal."""
        if not options["no_prepare"]:
            call_command("migrate", verbosity=0)
            call_command("collectstatic", verbosity=0, interactive=False)
            if PromptProfile.objects.ensure_default():
                self.stdout.write("A first profile is published: see /admin/calls/promptprofile/")
            self._ensure_admin()
        self._serve()

    def _ensure_admin(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = settings.ADMIN_PASSWORD or secrets.token_urlsafe(12)
        users.create_superuser("admin", password=password)
        shown = "from ADMIN_PASSWORD" if settings.ADMIN_PASSWORD else f"{password} (shown only now)"
        self.stdout.write(f"User admin, password {shown}")

    def _serve(self) -> None:
        # Daphne picks Twisted's reactor at import: only the command that serves may do that.
        from calls.server import CallServer
        from voiceagent.asgi import application

        self.stdout.write("Warming the models…")
        host = settings.HOST.replace(":", "\\:")  # Twisted's endpoint syntax
        CallServer(
            application,
            endpoints=[f"tcp:port={settings.PORT}:interface={host}"],
            ready_callable=self._announce,
            websocket_timeout=-1,
            server_name="voiceagent",
            verbosity=1,
        ).run()

    def _announce(self) -> None:
        host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
        where = f"{host}:{settings.PORT}"
        self.stdout.write(
            f"Ready.\n  calls   ws://{where}/ws/rustpbx\n  pages   http://{where}/\n  admin   http://{where}/admin/"
        )
        self.stdout.flush()
