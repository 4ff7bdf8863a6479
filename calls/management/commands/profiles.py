"""`manage.py profiles`: the profiles, their files, and publishing them."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import transaction
from django.utils.timezone import localtime

from calls.models import PromptProfile
from calls.profiles import exchange, results, standing
from calls.profiles.comparing import DRAFT, Side, side
from calls.profiles.difference import Difference, Kind, between
from calls.profiles.fields import settings_of, texts_of
from calls.profiles.notation import BadYaml
from calls.profiles.publishing import NotReady, publish
from calls.profiles.readiness import READY, readiness, worst
from calls.profiles.standing import Standing

STDIN = "-"


class Command(BaseCommand):
    """List, show, export, import and publish profiles."""

    help = "Lists profiles, shows what one says, writes and reads them as YAML, and publishes them."

    def add_arguments(self, parser: CommandParser) -> None:
        """One subcommand a verb."""
        verbs = parser.add_subparsers(dest="verb", metavar="VERB")
        listing = verbs.add_parser("list", help="the profiles and how they stand, also without a VERB")
        listing.add_argument("--archived", action="store_true", help="those that are archived")
        listing.add_argument("--json", action="store_true", help="print JSON, for programs")
        show = verbs.add_parser("show", help="what a profile says, or what changed in it")
        show.add_argument("slug")
        _add_version(show, "the newest, else the draft")
        show.add_argument("--since", metavar="VERSION", help="show what changed since this version")
        export = verbs.add_parser("export", help="write profiles as YAML")
        export.add_argument("slugs", nargs="+", metavar="SLUG")
        _add_version(export, DRAFT)
        export.add_argument("--output", metavar="FILE", help="write to this file (standard output)")
        reading = verbs.add_parser("import", help="read profiles from YAML as drafts")
        reading.add_argument("file", metavar="FILE", help="a file, or - for standard input")
        reading.add_argument("--dry-run", action="store_true", help="only say what would change")
        publishing = verbs.add_parser("publish", help="make a draft the version that calls use from now on")
        publishing.add_argument("slug")
        publishing.add_argument("--note", default="", help="what changed, in a few words")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError with the reason if it cannot be done."""
        verbs: dict[str, Callable[..., None]] = {
            "list": self._list,
            "show": self._show,
            "export": self._export,
            "import": self._import,
            "publish": self._publish,
        }
        verbs[options["verb"] or "list"](options)

    def _list(self, options: dict[str, Any]) -> None:
        archived = options.get("archived", False)
        profiles = PromptProfile.objects
        found = profiles.archived() if archived else profiles.in_use()
        stands = standing.of(found.order_by("-is_default", "name", "pk"))
        figures = results.lately(each.profile for each in stands)
        rows = [_row(each, figures.get(each.profile.pk, results.Lately())) for each in stands]
        if options.get("json"):
            self.stdout.write(json.dumps(rows, indent=2, ensure_ascii=False))
        elif not rows:
            self.stdout.write("There is no archived profile." if archived else "There is no profile.")
        else:
            self._write_table(rows)

    def _write_table(self, rows: list[dict[str, Any]]) -> None:
        lines = [["SLUG", "NAME", "PUBLISHED", "READY", f"CALLS {results.DAYS} D", "ERRORS", "ANSWER"]]
        for row in rows:
            version = f"v{row['version']}" if row["is_published"] else "no"
            changes = ", draft has changes" if row["version"] and row["has_changes"] else ""
            ms = f"{row['median_ms']} ms" if row["median_ms"] is not None else "-"
            slug = f"{row['slug']} (default)" if row["is_default"] else row["slug"]
            cells = [version + changes, row["readiness"], str(row["calls"]), str(row["failed"]), ms]
            lines.append([slug, row["name"], *cells])
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            self.stdout.write("  ".join(padded).rstrip())

    def _show(self, options: dict[str, Any]) -> None:
        profile = _profile(options["slug"])
        newest = profile.current_version
        chosen = _side(profile, options["version"] or (str(newest.number) if newest else DRAFT))
        self.stdout.write(f"{profile.name} ({profile.slug}), {chosen.label.lower()}{_published(chosen)}")
        if options["since"]:
            earlier = _side(profile, options["since"])
            self._write_difference(between(earlier.configuration, chosen.configuration))
            return
        for finding in readiness(chosen.configuration):
            if finding.level != READY:
                self.stdout.write(f"{finding.level}: {finding.part}: {finding.message}")
        for _, label, text in texts_of(chosen.configuration):
            self.stdout.write(f"\n{label}\n{_indented(text or '(empty)')}")
        self.stdout.write("")
        for _, label, value in settings_of(chosen.configuration):
            self.stdout.write(f"{label}: {value}")

    def _write_difference(self, difference: Difference) -> None:
        if difference.is_empty:
            self.stdout.write("Nothing differs.")
        marks = {Kind.SAME: "{}", Kind.GONE: "[-{}-]", Kind.NEW: "{{+{}+}}"}
        for text in difference.texts:
            pieces = "".join(marks[piece.kind].format(piece.text) for piece in text.pieces)
            self.stdout.write(f"\n{text.label}\n{_indented(pieces)}")
        for setting in difference.settings:
            self.stdout.write(f"{setting.label}: {setting.before} -> {setting.after}")

    def _export(self, options: dict[str, Any]) -> None:
        texts = []
        for slug in options["slugs"]:
            profile = _profile(slug)
            try:
                chosen = _side(profile, options["version"] or DRAFT)
                texts.append(exchange.write(profile, chosen.configuration))
            except exchange.HoldsSecret as e:
                raise CommandError(f"{slug} was not exported: {e}") from None
        text = "---\n".join(texts)
        if not (file := options["output"]):
            self.stdout.write(text, ending="")
            return
        try:
            Path(file).write_text(text, encoding="utf-8", newline="\n")
        except OSError as e:
            raise CommandError(f"{file}: {e.strerror}") from None

    def _import(self, options: dict[str, Any]) -> None:
        name = options["file"]
        try:
            raw = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
            written = exchange.read(raw.decode())
        except OSError as e:
            raise CommandError(f"{name}: {e.strerror}") from None
        except UnicodeDecodeError as e:
            raise CommandError(f"{name}: expected text in UTF-8; byte {e.start} is none") from None
        except BadYaml as e:
            raise CommandError(f"{name}: {e}") from None
        with transaction.atomic():
            for each in written:
                self._read_in(each, is_saved=not options["dry_run"])

    def _read_in(self, written: exchange.Written, *, is_saved: bool) -> None:
        profile = exchange.stored(written)
        before = profile.configuration() if profile.pk else None
        would = "" if is_saved else "would be "
        if before is None:
            self.stdout.write(f"{written.slug}: {would}made, as a draft")
        elif before == written.configuration and profile.name == written.name:
            self.stdout.write(f"{written.slug}: the draft says this already")
            return
        else:
            self.stdout.write(f"{written.slug}: the draft {would or 'is '}replaced")
            self._write_difference(between(before, written.configuration))
        if is_saved:
            exchange.store(written)
        if worst(findings := readiness(written.configuration)) != READY:
            for finding in findings:
                if finding.level != READY:
                    self.stdout.write(f"{written.slug}: {finding.level}: {finding.part}: {finding.message}")

    def _publish(self, options: dict[str, Any]) -> None:
        profile = _profile(options["slug"])
        before = profile.current_version
        try:
            version = publish(profile, note=options["note"])
        except NotReady as e:
            reasons = "\n".join(f"{each.field}: {each.message}" for each in e.findings)
            raise CommandError(f"{profile.slug} is not published, as calls would fail:\n{reasons}") from None
        if version == before:
            self.stdout.write(f"{profile.slug}: version {version.number} says this already; calls use it")
        else:
            self.stdout.write(f"{profile.slug}: version {version.number} is published")


def _add_version(parser: CommandParser, default: str) -> None:
    parser.add_argument("--version", metavar="VERSION", help=f'a number, or "{DRAFT}" ({default})')


def _profile(slug: str) -> PromptProfile:
    """Raises CommandError if there is none."""
    profile = PromptProfile.objects.filter(slug=slug).first()
    if profile is None:
        slugs = ", ".join(PromptProfile.objects.order_by("slug").values_list("slug", flat=True)[:20])
        raise CommandError(f"There is no profile {slug}; there are: {slugs or 'none'}.")
    return profile


def _side(profile: PromptProfile, name: str) -> Side:
    """Raises CommandError if there is no such version."""
    found = side(profile, name)
    if found is None:
        newest = profile.current_version
        there = f'expected "{DRAFT}"' + (f" or a number from 1 to {newest.number}" if newest else "")
        raise CommandError(f"{profile.slug} has no version {name}: {there}.")
    return found


def _published(chosen: Side) -> str:
    if chosen.version is None:
        return ""
    by = f" by {chosen.version.author}" if chosen.version.author else ""
    note = f": {chosen.version.note}" if chosen.version.note else ""
    return f", published {localtime(chosen.version.published_at):%Y-%m-%d %H:%M}{by}{note}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _row(stands: Standing, calls: results.Lately) -> dict[str, Any]:
    profile = stands.profile
    return {
        "slug": profile.slug,
        "name": profile.name,
        "is_default": profile.is_default,
        "is_published": profile.is_published,
        "version": stands.version.number if stands.version else None,
        "has_changes": stands.has_changes,
        "readiness": stands.level,
        "problems": [f"{finding.part}: {finding.message}" for finding in stands.problems],
        "calls": calls.calls,
        "failed": calls.failed,
        "median_ms": calls.median_ms,
    }
