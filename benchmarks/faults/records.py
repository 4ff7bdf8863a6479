"""What is lost: what clients were told against what is stored. Pure."""

from collections.abc import Mapping, Sequence

from benchmarks.faults.callers import Witness
from benchmarks.faults.stand import Stored

CRASH = "crash"
ACTIVE = "active"
OWN_END = {"disconnect", "closed"}  # what a call that its client ended is stored as
FOREVER = float("inf")


def records(caller: Witness) -> int:
    """How many final records there are of a call: its row, its end, and each finished text."""
    return 2 + len(caller.told) if caller.call_id else 0


def lost(caller: Witness, stored: Stored | None, *, by: float = FOREVER, killed: bool = False) -> list[str]:
    """The final records of a call that are not stored, each as a few words.

    Args:
        by: only what the client was told up to then counts, and the end only if it was before or the client
            has become unreachable.
        killed: its server was, so others may have closed it.
    """
    if not caller.call_id:
        return []
    if stored is None:
        return ["the call", *(f"{each.speaker}: {each.text}" for each in caller.told if each.at <= by)]
    missing = []
    for speaker in ("caller", "agent"):
        texts = [each.text for each in caller.told if each.speaker == speaker and each.at <= by]
        missing += [f"{speaker}: {text}" for text in _missing(texts, stored.words.get(speaker, []))]
    over = by == FOREVER or 0 < caller.ended_at <= by or caller.unreachable
    if over and (why := _end_lost(caller, stored, killed)):
        missing.append(why)
    return missing


def _end_lost(caller: Witness, stored: Stored, killed: bool) -> str:
    if stored.status == ACTIVE:
        return "the end: still active"
    if killed and not caller.hanging_up:
        return ""
    if stored.end_reason == CRASH or (caller.hanging_up and stored.end_reason not in OWN_END):
        return f"the end: stored as {stored.end_reason}"
    return ""


def _missing(texts: Sequence[str], words: Sequence[str]) -> list[str]:
    """The texts that are not, in this order, among the words."""
    missing, at = [], 0
    for text in texts:
        wanted = text.split()
        found = next((i for i in range(at, len(words)) if words[i : i + len(wanted)] == wanted), None)
        if found is None:
            missing.append(text)
        else:
            at = found + len(wanted)
    return missing


def all_lost(
    callers: Sequence[Witness], stored: Mapping[str, Stored], *, by: float = FOREVER, killed: bool = False
) -> list[str]:
    """What is not stored of these calls, each with its room."""
    return [
        f"{caller.room}: {what}"
        for caller in callers
        for what in lost(caller, stored.get(caller.call_id), by=by, killed=killed)
    ]
