"""`manage.py prepare`: the database, the first profile and user, and the static files, ready to be served."""

import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from calls.models import PromptProfile
from calls.preparing import StillLocked, alone


class Command(BaseCommand):
    """Do once what several nodes, or another server than ours, need done."""

    help = "Migrates, makes the first profile and user if there is none, and collects static files."

    def handle(self, *args: Any, **options: Any) -> None:
        """Do what is not done yet, unless another process does it: then wait for that."""
        try:
            with alone(self._tell_of_the_other):
                self._prepare()
        except StillLocked as e:
            raise CommandError(str(e)) from e
        except Error as e:
            raise CommandError(f"the database cannot be prepared: {' '.join(str(e).split())}") from e
        except OSError as e:
            raise CommandError(f"files cannot be prepared: {e}") from e

    def _tell_of_the_other(self) -> None:
        self.stdout.write("Another process prepares the database: waiting for it.")

    def _prepare(self) -> None:
        call_command("migrate", verbosity=0)
        call_command("collectstatic", verbosity=0, interactive=False)
        if PromptProfile.objects.ensure_default():
            self.stdout.write("A first profile is published: see /admin/calls/promptprofile/")
        self._ensure_admin()

    def _ensure_admin(self) -> None:
        users = get_user_model().objects
        if users.filter(is_superuser=True).exists():
            return
        password = settings.ADMIN_PASSWORD or secrets.token_urlsafe(12)
        users.create_superuser("admin", password=password)
        shown = "from ADMIN_PASSWORD" if settings.ADMIN_PASSWORD else f"{password} (shown only now)"
        self.stdout.write(f"User admin, password {shown}")
