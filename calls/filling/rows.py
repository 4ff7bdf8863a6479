"""The rows of made-up calls: the calls, their turns and their events."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from calls.filling import texts
from calls.models import (
    CallEvent,
    CallNames,
    CallSession,
    CallStatus,
    ClientGeneration,
    EndReason,
    EventKind,
    ProfileVersion,
    PromptProfile,
    Severity,
    Speaker,
    Turn,
)
from calls.models.folding import folded
from calls.models.query import names_folded

TURNS = 10  # of a call, on average
MOST_TURNS = 60  # of all calls but the long one
PROFILES = ("Front desk", "Sales desk", "Workshop", "Night line", "Complaints")
# What the versions of a profile greet with, each for its part of the year.
GREETINGS = (
    "Hello! How can I help you?",
    "Hello, how can I help you today?",
    "Good day! What can I do for you?",
)
YEAR = timedelta(days=365)
BUSY_HOURS = (8, 19)  # nine of ten calls are between these hours
NAMED_CALLERS = 0.05  # the share of calls whose caller is a name instead of a number
RARE = ("zebra", "quince", "ukulele")  # each is said once in many thousand turns
RARE_SHARE = 1 / 20_000  # of the turns
OUTCOMES = (
    (40, CallStatus.COMPLETED, EndReason.DISCONNECT, ""),
    (40, CallStatus.COMPLETED, EndReason.AUDIO_STOPPED, ""),
    (10, CallStatus.COMPLETED, EndReason.CLOSED, ""),
    (4, CallStatus.INTERRUPTED, EndReason.CRASH, ""),
    (3, CallStatus.FAILED, EndReason.ABUSE, "the client does not read"),
    (3, CallStatus.FAILED, EndReason.ERROR, "the provider closed the connection (1011)"),
)


@dataclass(frozen=True)
class MadeUpCall:
    """A call with all its rows, to be written in this order."""

    session: CallSession
    names: CallNames
    turns: list[Turn]
    events: list[CallEvent]


def versions(until: datetime) -> list[list[ProfileVersion]]:
    """Return the versions of each profile that made-up calls of the year before `until` use, in order.

    Missing profiles are created, with versions of that year, and not published.
    """
    PromptProfile.objects.ensure_default()
    found = []
    for name in PROFILES:
        slug, fields = name.lower().replace(" ", "-"), {"name": name, "system_prompt": "Be brief."}
        profile = PromptProfile.objects.get_or_create(slug=slug, defaults=fields)[0]
        for number, greeting in enumerate(GREETINGS if not profile.versions.exists() else (), 1):
            configuration = profile.configuration() | {"greeting": greeting}
            version = profile.versions.create(number=number, configuration=configuration)
            at = until - YEAR * (1 - (number - 1) / len(GREETINGS))
            # Not by its own queryset, which changes nothing; this one is not in use yet.
            QuerySet(ProfileVersion).filter(pk=version.pk).update(published_at=at)
        found.append(list(profile.versions.order_by("number")))
    return found


def made_up(
    dice: random.Random,
    calls: int,
    answering: Sequence[Sequence[ProfileVersion]],
    until: datetime,
    long_turns: int,
) -> Iterator[MadeUpCall]:
    """Yield so many calls of the year before `until`, the oldest first.

    One in the middle has `long_turns` turns. The same seed gives the same calls.
    """
    year_s = YEAR.total_seconds()
    starts = sorted(dice.uniform(0, year_s) for _ in range(calls))
    for number, seconds in enumerate(starts):
        at = _at_work(dice, until - timedelta(seconds=year_s - seconds))
        turns = min(1 + int(dice.expovariate(1 / (TURNS - 0.5))), MOST_TURNS)
        if number == calls // 2 and long_turns:
            turns = long_turns
        (chosen,) = dice.choices(answering, range(len(answering), 0, -1))
        yield _call(dice, chosen[int(seconds / year_s * len(chosen))], at, turns)


def _at_work(dice: random.Random, at: datetime) -> datetime:
    """Return a time on the day of `at`, most often in the busy hours."""
    hour = dice.randrange(*BUSY_HOURS) if dice.random() < 0.9 else at.hour
    # Never later than it was, so that no call lies in the future.
    return at.replace(hour=min(hour, at.hour))


def _call(dice: random.Random, version: ProfileVersion, at: datetime, turns: int) -> MadeUpCall:
    number, language = texts.phone(dice), texts.language(dice)
    named = dice.random() < NAMED_CALLERS
    caller = f"{dice.choice(texts.NAMES)} {dice.choice(texts.FAMILIES)}" if named else number
    _, status, reason, error = dice.choices(OUTCOMES, [outcome[0] for outcome in OUTCOMES])[0]
    session = CallSession(
        id=UUID(int=dice.getrandbits(128), version=4),
        room_id=f"room-{dice.getrandbits(48):012x}",
        version=version,
        profile=version.profile,
        caller=caller,
        callee=dice.choice(("100", "200", "support", "+493088877766")),
        metadata={"made_up": True},
        status=status,
        started_at=at,
        end_reason=reason,
        error=error,
        remote_address="127.0.0.1",
        client_generation=dice.choice((ClientGeneration.SEED, ClientGeneration.NEW)),
    )
    said = list(_turns(dice, session, language, number, turns))
    latencies = sorted(turn.total_ms for turn in said if turn.total_ms is not None)
    end_ms = said[-1].end_ms or 0
    session.turn_count = turns
    session.error_count = int(bool(error))
    session.median_latency_ms = latencies[len(latencies) // 2] if latencies else None
    session.worst_latency_ms = latencies[-1] if latencies else None
    session.audio_in_s, session.audio_out_s = end_ms / 1000, end_ms / 2500
    session.ended_at = at + timedelta(milliseconds=end_ms)
    names = CallNames(session=session, folded=names_folded((session.room_id, session.caller, session.callee)))
    return MadeUpCall(session, names, said, list(_events(session, said)))


def _turns(
    dice: random.Random, session: CallSession, language: texts.Language, number: str, turns: int
) -> Iterator[Turn]:
    """Yield the turns of a call: the agent's and the caller's alternate."""
    ms = 300
    for index in range(turns):
        by_agent = index % 2 == 0
        text = texts.sentence(dice, dice.choice(language.agent if by_agent else language.caller), number)
        if dice.random() < RARE_SHARE:
            text = f"{text} {dice.choice(RARE).capitalize()}!"
        answers = by_agent and index > 0
        end_ms = ms + 60 * len(text)
        yield Turn(
            session=session,
            index=index,
            speaker=Speaker.AGENT if by_agent else Speaker.CALLER,
            text=text,
            folded=folded(text),
            final=True,
            start_ms=ms,
            end_ms=end_ms,
            interrupted=by_agent and dice.random() < 0.08,
            language=language.tag,
            stt_ms=dice.randrange(40, 200) if answers else None,
            total_ms=dice.randrange(350, 2000) if answers else None,
        )
        ms = end_ms + dice.randrange(200, 1500)


def _events(session: CallSession, turns: Sequence[Turn]) -> Iterator[CallEvent]:
    """Yield the events of a call: interruptions, and the failure that ended it."""
    for turn in turns:
        if turn.interrupted:
            yield CallEvent(
                session=session,
                ms=turn.end_ms or 0,
                kind=EventKind.INTERRUPTION,
                message="the caller interrupted the agent",
                turn=turn.index,
            )
    if session.error:
        yield CallEvent(
            session=session,
            ms=turns[-1].end_ms or 0,
            kind=EventKind.PROVIDER_FAILURE,
            severity=Severity.ERROR,
            message=session.error,
            provider="stt/local",
        )
