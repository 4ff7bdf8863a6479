"""`manage.py serve`: everything a fresh machine needs, then the server."""

import logging
import os
import signal
import socket
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """Prepare, warm the models, serve."""

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
        self._check_address()
        if not options["no_prepare"]:
            call_command("prepare", stdout=self.stdout)
        self._serve()

    def _check_address(self) -> None:
        """Fail before anything is done: the calls of a server that runs already must not pass for orphans."""
        v6 = ":" in settings.HOST  # then IPv4 as well, where the system can
        family, both = (socket.AF_INET6, socket.has_dualstack_ipv6()) if v6 else (socket.AF_INET, False)
        try:
            socket.create_server((settings.HOST, settings.PORT), family=family, dualstack_ipv6=both).close()
        except (OSError, OverflowError) as e:  # a port beyond 65535
            why = getattr(e, "strerror", "") or e
            raise CommandError(f"cannot listen on {settings.HOST} port {settings.PORT}: {why}") from e

    def _serve(self) -> None:
        # Daphne picks Twisted's reactor at import: only the command that serves may do that.
        from calls.gateway.server.daphne import CallServer, endpoint
        from calls.gateway.server.lifespan import CannotStart
        from calls.pages import serving
        from voiceagent.asgi import application

        self.stdout.write("Warming the models…")
        server = CallServer(
            application,
            endpoints=[endpoint(settings.HOST, settings.PORT)],
            signal_handlers=False,  # ours are in calls/gateway/server/signals.py
            ready_callable=self._announce,
            websocket_timeout=-1,
            server_name="voiceagent",
            verbosity=1,
        )
        try:
            server.run()
        except CannotStart as e:
            raise CommandError(str(e)) from e
        except KeyboardInterrupt:  # while the models load
            raise SystemExit(128 + signal.SIGINT) from None
        if serving.abandoned:  # its thread waits for an event loop that has ended
            logging.shutdown()
            os._exit(0)

    def _announce(self) -> None:
        host = f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST
        where = f"{host}:{settings.PORT}"
        self.stdout.write(
            f"Ready.\n  calls   ws://{where}/ws/rustpbx\n  pages   http://{where}/\n  admin   http://{where}/admin/"
        )
        self.stdout.flush()
