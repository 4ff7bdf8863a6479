"""Who answers the calls that name no profile, once another does not any more."""

from collections.abc import Iterable

from calls.models import PromptProfile


def after_leaving(profiles: Iterable[PromptProfile]) -> str:
    """What comes of deleting or archiving these profiles; "" if the same one goes on answering."""
    leaving = {profile.pk for profile in profiles}
    answering = PromptProfile.objects.answering()
    if answering is None or answering.pk not in leaving:
        return ""
    heir = PromptProfile.objects.exclude(pk__in=leaving).answering()
    return _words(heir, is_default=heir is not None and heir.is_default)


def after_saving(stored: PromptProfile, *, is_default: bool) -> str:
    """What comes of saving a profile so; "" unless it was the default and would be it no more."""
    if stored.pk is None or is_default or not stored.is_default:
        return ""
    return _words(PromptProfile.objects.usable().order_by("pk").first(), is_default=False)


def _words(heir: PromptProfile | None, *, is_default: bool) -> str:
    if heir is None:
        return "No profile is left that calls may use: every call will be refused."
    if is_default:
        return f"Calls that name no profile will be answered by “{heir}”, the default."
    return (
        f"No profile will be the default: calls that name none will be answered by “{heir}”, "
        "the oldest published one."
    )
