"""`manage.py fill`: made-up calls, to try the pages with and to measure them."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import IntegrityError, connection, transaction

from calls.filling import rows
from calls.models import CallEvent, CallNames, CallSession, Turn

AT_ONCE = 500  # calls in one transaction
SQLITE_CACHE_KB = 262_144  # keeps the indexes in memory, whose places are written to at random


class Command(BaseCommand):
    """Store made-up calls."""

    help = (
        "Stores made-up calls of the last year: several languages, numbers, profiles and failures. "
        "They are marked made_up in their metadata. The same seed gives the same calls."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """How many, which and whether even in production."""
        size = parser.add_mutually_exclusive_group()
        size.add_argument("--calls", type=int, default=1000, help="how many calls (1000)")
        size.add_argument("--turns", type=int, help="about how many turns, at 10 a call, instead of calls")
        parser.add_argument("--long", type=int, default=0, metavar="TURNS", help="one call has so many turns")
        parser.add_argument("--seed", type=int, default=1, help="other numbers give other calls (1)")
        parser.add_argument(
            "--until", type=_day, help="the day the year of the calls ends, such as 2026-03-04 (today)"
        )
        parser.add_argument("--force", action="store_true", help="also in production")

    def handle(self, *args: Any, **options: Any) -> None:
        """Store them; raises CommandError in production and if they are stored already."""
        if settings.PRODUCTION and not options["force"]:
            raise CommandError(
                "This is in production: made-up calls would be among the real ones. See --force."
            )
        turns, long_turns = options["turns"], options["long"]
        count = options["calls"] if turns is None else max(1, (turns - long_turns) // rows.TURNS)
        if count < 1 or long_turns < 0 or (turns is not None and turns < 1):
            raise CommandError("--calls and --turns have to be at least 1, and --long at least 0.")
        until = options["until"] or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        # What it makes has to be the same every time; nothing secret depends on it.
        dice = random.Random(options["seed"])  # noqa: S311
        calls = rows.made_up(dice, count, rows.versions(until), until, long_turns)
        begin = time.monotonic()
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(f"PRAGMA cache_size = -{SQLITE_CACHE_KB}")
        try:
            stored, said = self._store(calls, count)
        except IntegrityError as e:
            raise CommandError(f"Are these calls stored already? Choose another --seed. ({e})") from e
        self._settle()
        seconds = time.monotonic() - begin
        self.stdout.write(
            f"Made {stored:,} calls with {said:,} turns and {len(rows.PROFILES)} profiles in {seconds:.0f} s."
        )

    def _store(self, calls: Iterator[rows.MadeUpCall], count: int) -> tuple[int, int]:
        """Write the calls; how many, and with how many turns."""
        stored = said = 0
        while batch := list(islice(calls, AT_ONCE)):
            with transaction.atomic():
                CallSession.objects.bulk_create([call.session for call in batch])
                CallNames.objects.bulk_create([call.names for call in batch])
                Turn.objects.bulk_create([turn for call in batch for turn in call.turns], batch_size=5000)
                CallEvent.objects.bulk_create([event for call in batch for event in call.events])
            stored += len(batch)
            said += sum(len(call.turns) for call in batch)
            if self.stdout.isatty():
                self.stdout.write(f"\r{stored:,} of {count:,} calls, {said:,} turns", ending="")
                self.stdout.flush()
        if self.stdout.isatty():
            self.stdout.write("")
        return stored, said

    def _settle(self) -> None:
        """Do at once what PostgreSQL would do by itself within minutes; SQLite does nothing of the kind."""
        if connection.vendor == "postgresql" and not connection.in_atomic_block:
            with connection.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE")


def _day(text: str) -> datetime:
    """Return the end of a day, in UTC."""
    return datetime.fromisoformat(text).replace(hour=23, minute=59, second=59, tzinfo=UTC)
